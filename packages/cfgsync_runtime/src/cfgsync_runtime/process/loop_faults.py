"""An error in the event loop is one line of the log; many errors are a few lines a minute and their number.

asyncio's own handler writes a traceback for each: one a second when a server has no file descriptor left.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any, Final

from cfgsync_core.text import plain

MINUTE: Final = 60.0
LINES: Final = 4
"""Errors that are logged in a minute, which begins with the first one; one more line counts the others. Two adjacent
minutes have ten lines at most."""

log = logging.getLogger("cfgsync")


class LoopFaults:
    """An event loop's exception handler: `loop.set_exception_handler(LoopFaults())`. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = -MINUTE
        self._logged = 0
        self._skipped = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        now = self._clock()
        if now - self._began >= MINUTE:
            self._sum_up()
            self._began, self._logged = now, 0
        if self._logged < LINES:
            self._logged += 1
            log.error("event loop: %s", _in_a_line(context))
            return
        if not self._skipped:
            loop.call_later(self._began + MINUTE - now, self._sum_up)
        self._skipped += 1

    def _sum_up(self) -> None:
        if self._skipped:
            log.error("event loop: %d more faults like these within the minute", self._skipped)
        self._skipped = 0


def _in_a_line(context: dict[str, Any]) -> str:
    """The error and its place, without the objects that asyncio names: they may hold a secret."""
    message = plain(str(context.get("message") or "a fault"), 200)
    error = context.get("exception")
    if not isinstance(error, BaseException):
        return message
    text = f"{message}: {type(error).__name__}: {plain(str(error), 200)}"
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return text + "".join(f" ({frame.filename}:{frame.lineno}, {frame.name})" for frame in frames)
