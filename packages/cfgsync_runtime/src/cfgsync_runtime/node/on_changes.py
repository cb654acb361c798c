"""What the operator wants after a change of the files, on the server or on this machine."""

from __future__ import annotations

import signal
from enum import StrEnum
from typing import Final

import msgspec

from ..program.process_group import GRACE
from .check import Check
from .drift import OnDrift

HEALTHY_AFTER: Final = 5.0
"""Seconds that a program must live with its files, from its start or a change on."""

GROUP: Final = "default"

HEALTH_WITHIN: Final = 60.0
"""Seconds until a health command must have passed."""


class OnChange(StrEnum):
    """How the program learns of changed files."""

    RESTART = "restart"
    SIGNAL = "signal"
    COMMAND = "command"
    NOTHING = "nothing"


class OnChanges(msgspec.Struct, frozen=True):
    """What follows a change of the files: how the program is notified (`signal` or `line` belong to `how`), after a random
    pause of up to `splay` seconds; `check` is run before it. `drift` None: repair a directory, report routed files.
    `grace` is in seconds. The program must live for `healthy_after` seconds with new files (None: 5 after a restart, else 0),
    and the shell line `health` must exit with 0 within `health_within`. `group` is the one that the node takes turns in."""

    how: OnChange = OnChange.RESTART
    signal: signal.Signals | None = None
    line: str = ""
    splay: float = 0.0
    check: Check | None = None
    drift: OnDrift | None = None
    grace: float = GRACE
    healthy_after: float | None = None
    health: str = ""
    health_within: float = HEALTH_WITHIN
    group: str = GROUP

    def tells(self, starts: bool) -> bool:
        """Whether a program is notified; `starts`: cfgsync starts one."""
        return self.how is OnChange.COMMAND or (starts and self.how is not OnChange.NOTHING)

    def takes_turns(self, starts: bool) -> bool:
        """Whether a change disturbs a program, or can be refused; `starts`: cfgsync starts one."""
        return starts or self.how is OnChange.COMMAND or self.check is not None or bool(self.health)

    def proves_after(self, starts: bool) -> float:
        """Seconds that the program must live with new files."""
        restarts = starts and self.how is OnChange.RESTART
        return self.healthy_after if self.healthy_after is not None else HEALTHY_AFTER if restarts else 0.0

    def repairs(self, whole: bool) -> bool:
        """Whether changed files are restored; `whole`: they are in one directory."""
        return (self.drift or (OnDrift.REPAIR if whole else OnDrift.REPORT)) is OnDrift.REPAIR
