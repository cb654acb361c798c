"""A program and everything that it starts are one process group: signalled as one, and ended when none of it runs."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

GRACE: Final = 10.0
"""Seconds between SIGTERM and SIGKILL at a restart."""

_STATE, _GROUP = 0, 2  # in /proc/PID/stat, after the name


class ProcessGroup:
    """The group that the process `number` leads."""

    def __init__(self, number: int) -> None:
        self.number: Final = number

    def send(self, signal: int) -> None:
        """Send a signal to each process of it, if there is one."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.number, signal)

    def is_running(self) -> bool:
        """True while one of its processes runs. One that has ended but that its parent does not reap counts as ended."""
        try:
            os.killpg(self.number, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        if not os.path.exists("/proc/self/stat"):
            return True
        return any(self._holds(name) for name in os.listdir("/proc") if name.isdigit())

    def _holds(self, process: str) -> bool:
        try:
            with open(f"/proc/{process}/stat", "rb") as stat:
                words = stat.read().rpartition(b")")[2].split()
        except OSError:
            return False
        return int(words[_GROUP]) == self.number and words[_STATE] not in (b"Z", b"X")


BLOCKED_LOOKS: Final = 5
"""A signal that is blocked at so many looks in a row is read by the program (`signalfd`), and not blocked for a moment."""


def catches(process: int, signal: int, *, blocked_counts: bool = True) -> bool:
    """True when a process handles or blocks this signal, which would end it otherwise; True where the system does not say
    (no /proc). A process that starts another one blocks every signal for a moment: see `blocked_counts`."""
    try:
        with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as status:
            masks = dict(line.split(":", 1) for line in status if line.startswith(("SigCgt:", "SigBlk:")))
    except OSError:
        return not os.path.exists("/proc/self/status")
    if not blocked_counts:
        masks.pop("SigBlk", None)
    return any(int(mask, 16) >> (signal - 1) & 1 for mask in masks.values())
