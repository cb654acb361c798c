"""Which signals end a watching cfgsync, and which ones it passes on to its program: all others that can be caught."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

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


@contextmanager
def cleaned_up() -> Iterator[None]:
    """SIGTERM and SIGHUP, where they would kill the process at once, first unwind what is inside as an exception does:
    it ends its child and removes its temporary files. A signal that somebody handles, or ignores, stays as it is."""
    is_main = threading.current_thread() is threading.main_thread()
    fatal = [
        one for one in (signal.SIGTERM, signal.SIGHUP) if is_main and signal.getsignal(one) is signal.SIG_DFL
    ]
    for number in fatal:
        signal.signal(number, _unwind)
    try:
        yield
    except _Killed as killed:
        signal.signal(killed.number, signal.SIG_DFL)
        signal.raise_signal(killed.number)
    finally:
        for number in fatal:
            signal.signal(number, signal.SIG_DFL)


class _Killed(BaseException):
    def __init__(self, number: int) -> None:
        self.number = number


def _unwind(number: int, _: object) -> NoReturn:
    raise _Killed(number)
