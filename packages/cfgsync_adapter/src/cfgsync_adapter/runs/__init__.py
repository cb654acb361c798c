"""Calling the materializer: one run at a time, where it runs, and what came of it."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from ..application.failure import application_traceback as application_traceback
    from ..application.failure import overdue as overdue
    from ..application.failure import raised_at as raised_at
    from ..application.failure import sentence as sentence
    from .by_operator import Renewal as Renewal
    from .decider import Decision as Decision

__getattr__, __dir__, __all__ = door(__name__, __file__)
