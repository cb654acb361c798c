"""What a store promises, and the hints that follow a commit: versions, entries, backends, the reference engine."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .announcing import Describe as Describe
    from .contract import BLOB as BLOB
    from .contract import HISTORY_BYTES as HISTORY_BYTES
    from .contract import HISTORY_REVISIONS as HISTORY_REVISIONS
    from .contract import check_load as check_load
    from .contract import check_writes as check_writes
    from .contract import digest_entries as digest_entries
    from .epoch import epoch_ms as epoch_ms
    from .epoch import mint_epoch as mint_epoch
    from .epoch import uuid7 as uuid7
    from .hints import Bus as Bus
    from .moving import Move as Move
    from .moving import MoveState as MoveState
    from .moving import abort_move as abort_move
    from .moving import mark_backup as mark_backup
    from .moving import move_store as move_store
    from .moving import refuse_moved as refuse_moved
    from .notifying import NotifyingStore as NotifyingStore
    from .notifying import StoreCounts as StoreCounts

__getattr__, __dir__, __all__ = door(__name__, __file__)
