"""The time that a reader waits by: an event loop's, or a virtual one in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> object: ...


class Clock(Protocol):
    """Monotonic seconds and calls that are due later; every event loop is one."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer: ...


async def wait_for(event: asyncio.Event, seconds: float, clock: Clock) -> None:
    """Return when `event` is set; the clock sets it after `seconds`."""
    timer = clock.call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()


async def within(seconds: float, work: Coroutine[Any, Any, T], clock: Clock) -> T:
    """What `work` returns or raises; when it takes longer, it is cancelled and `TimeoutError` is raised."""
    task = asyncio.ensure_future(work)
    late = False

    def too_late() -> None:
        nonlocal late
        late = task.cancel()

    timer = clock.call_later(seconds, too_late)
    try:
        return await task
    except asyncio.CancelledError:
        if late:
            raise TimeoutError("no answer in time") from None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    finally:
        timer.cancel()
