"""Keeping a view in step with its source: one loop, what may be accepted, when to look next, one bucket in memory."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .acceptance import Alarm as Alarm
    from .acceptance import Away as Away
    from .acceptance import ReadResult as ReadResult
    from .acceptance import Same as Same
    from .acceptance import Steps as Steps
    from .acceptance import Whole as Whole
    from .mirror import BucketMirror as BucketMirror
    from .mirror import OtherServers as OtherServers
    from .mirror import catch_up as catch_up
    from .reconciler import Reconciler as Reconciler
    from .timing import INTERVAL as INTERVAL
    from .timing import ReaderState as ReaderState
    from .view import Ask as Ask

__getattr__, __dir__, __all__ = door(__name__, __file__)
