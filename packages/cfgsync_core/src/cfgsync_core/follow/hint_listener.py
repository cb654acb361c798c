"""Hearing hints: a subscription that dies is opened again, and the source is read when it is back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

from .clock import Clock, wait_for
from .timing import BASE, SETTLE

SUBSCRIBE_WITHIN: Final = 2.0  # s that the first read waits for hints to be subscribed to

Subscribe: TypeAlias = Callable[[], AbstractAsyncContextManager[AsyncIterator[None]]]

log = logging.getLogger("cfgsync.reconcile")


class HintListener:
    """Calls `heard(why)` after hints, and after a time without any. `interval` is how often the source is read without
    hints, in seconds. Run `run()` as a task; `name` is for the log."""

    def __init__(
        self,
        subscribe: Subscribe,
        heard: Callable[[str], object],
        *,
        interval: float,
        clock: Clock,
        random: Callable[[], float],
        name: str,
    ) -> None:
        self._subscribe = subscribe
        self._heard = heard
        self._interval = interval
        self._clock = clock
        self._random = random
        self._name = name
        self._tried = asyncio.Event()

    async def subscribed(self) -> None:
        """Return when the first subscription is open, or cannot be opened, or after 2 s."""
        await wait_for(self._tried, SUBSCRIBE_WITHIN, self._clock)

    async def run(self) -> None:
        """Listen until cancelled."""
        failures = 0
        while True:
            opened_at = self._clock.time()
            try:
                async with self._subscribe() as hints:
                    if failures or self._tried.is_set():
                        self._heard("hints were not heard for a while")
                    self._tried.set()
                    async for _ in hints:
                        self._heard("a hint came")
                        await self._sleep(SETTLE)  # hints that come meanwhile count as one
                why = "the subscription ended"
            except Exception as error:
                why = str(error) or type(error).__name__
            self._tried.set()  # there is nothing to wait for: the timer is enough
            failures = 1 if self._clock.time() - opened_at >= self._interval else failures + 1
            if failures == 1:
                log.warning(
                    "%s: no hints (%s); reading it every %g s meanwhile", self._name, why, self._interval
                )
            await self._sleep(self._random() * min(self._interval, BASE * 2.0 ** min(failures, 16)))

    async def _sleep(self, seconds: float) -> None:
        await wait_for(asyncio.Event(), seconds, self._clock)
