"""A fault of the event loop is one line of the log, and a flood of them a few lines a minute with their number.

asyncio's own handler writes a traceback for each: a server without a file left for the next connection, once a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any, Final

from cfgsync_core import plain

MINUTE: Final = 60.0
LINES: Final = 4
"""Faults that are told of a minute, which begins with the first; one line more says how many were not. Two minutes that
touch are ten lines."""

log = logging.getLogger("cfgsync")


class LoopFaults:
    """An event loop's exception handler: `loop.set_exception_handler(LoopFaults())`. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = -MINUTE
        self._told = 0
        self._untold = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        now = self._clock()
        if now - self._began >= MINUTE:
            self._sum_up()
            self._began, self._told = now, 0
        if self._told < LINES:
            self._told += 1
            log.error("event loop: %s", _in_a_line(context))
            return
        if not self._untold:
            loop.call_later(self._began + MINUTE - now, self._sum_up)
        self._untold += 1

    def _sum_up(self) -> None:
        if self._untold:
            log.error("event loop: %d more faults like these within the minute", self._untold)
        self._untold = 0


def _in_a_line(context: dict[str, Any]) -> str:
    """What happened and where, without the objects that asyncio names: what they hold may be a secret."""
    message = plain(str(context.get("message") or "a fault"), 200)
    error = context.get("exception")
    if not isinstance(error, BaseException):
        return message
    said = f"{message}: {type(error).__name__}: {plain(str(error), 200)}"
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return said + "".join(f" ({frame.filename}:{frame.lineno}, {frame.name})" for frame in frames)
