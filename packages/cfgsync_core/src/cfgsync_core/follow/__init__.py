"""Keeping a view in step with its source: one loop, what may be accepted, when to look next, one bucket in memory."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .acceptance import Alarm as Alarm
    from .mirror import BucketMirror as BucketMirror
    from .mirror import OtherServers as OtherServers
    from .mirror import catch_up as catch_up
    from .timing import ReaderState as ReaderState

__getattr__, __dir__, __all__ = door(__name__, __file__)
