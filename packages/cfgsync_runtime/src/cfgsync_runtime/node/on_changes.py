"""What the operator wants after a change of the files, on the server or on this machine."""

from __future__ import annotations

import signal
from enum import StrEnum

import msgspec

from ..program.process_group import GRACE
from .check import Check
from .drift import OnDrift


class OnChange(StrEnum):
    """How the program learns of changed files."""

    RESTART = "restart"
    SIGNAL = "signal"
    COMMAND = "command"
    NOTHING = "nothing"


class OnChanges(msgspec.Struct, frozen=True):
    """What follows a change of the files: how the program is notified (`signal` or `line` belong to `how`), after a random
    pause of up to `splay` seconds; `check` is run before it. `drift` None: repair a directory, report routed files.
    `grace` is in seconds."""

    how: OnChange = OnChange.RESTART
    signal: signal.Signals | None = None
    line: str = ""
    splay: float = 0.0
    check: Check | None = None
    drift: OnDrift | None = None
    grace: float = GRACE

    def tells(self, starts: bool) -> bool:
        """Whether a program is notified; `starts`: cfgsync starts one."""
        return self.how is OnChange.COMMAND or (starts and self.how is not OnChange.NOTHING)

    def repairs(self, whole: bool) -> bool:
        """Whether changed files are restored; `whole`: they are in one directory."""
        return (self.drift or (OnDrift.REPAIR if whole else OnDrift.REPORT)) is OnDrift.REPAIR
