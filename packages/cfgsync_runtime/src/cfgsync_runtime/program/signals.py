"""Which signals end a watching cfgsync, and which ones it passes on to its program: all others that can be caught."""

from __future__ import annotations

import os
import signal
from typing import Final

ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_OURS: Final = frozenset(
    {
        "KILL",
        "STOP",
        "CHLD",
        "TSTP",
        "TTIN",
        "TTOU",
        "PIPE",
        "XFSZ",
        "SEGV",
        "BUS",
        "FPE",
        "ILL",
        "TRAP",
        "ABRT",
        "SYS",
    }
)
"""Signals that cannot be caught, report a fault of this process, or belong to its terminal or its children."""

PASSED_ON: Final = tuple(
    number
    for number in sorted(signal.valid_signals())
    if number not in ENDING and getattr(number, "name", "").removeprefix("SIG") not in _OURS
)


def in_foreground() -> bool:
    """True when the terminal sends Ctrl-C to our whole process group."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
