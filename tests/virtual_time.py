"""A clock that goes when a test says so: what is due happens in order, and each time everything comes to rest first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable


class Due:
    """A call that is due at `at`."""

    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at = at
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """`time()` and `call_later`, as an event loop has them. `busy()` says that a thread still works on an answer."""

    def __init__(self, busy: Callable[[], bool] = lambda: False) -> None:
        self.now = 1000.0
        self.busy = busy
        self._due: list[tuple[float, int, Due]] = []
        self._count = itertools.count()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Due:
        due = Due(self.now + delay, callback)
        heapq.heappush(self._due, (due.at, next(self._count), due))
        return due

    async def rest(self) -> None:
        """Let everything run that can run now."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0)
            if self.busy():
                await asyncio.sleep(0.0002)
            elif not loop._ready:  # nobody but this task
                return

    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        end = self.now + seconds
        await self.rest()
        while self._due and self._due[0][0] <= end:
            at, _, due = heapq.heappop(self._due)
            if due.callback is not None:
                self.now = max(self.now, at)
                due.callback()
                await self.rest()
        self.now = end
        await self.rest()
