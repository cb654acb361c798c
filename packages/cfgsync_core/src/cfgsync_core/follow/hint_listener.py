"""Listening for hints: a broken subscription is opened again, and then the source is read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ..text import error_text
from .clock import Clock, wait_for
from .timing import BASE, SETTLE

SUBSCRIBE_WITHIN: Final = 2.0  # s that the first read waits for the subscription

Subscribe: TypeAlias = Callable[[], AbstractAsyncContextManager[AsyncIterator[None]]]

log = logging.getLogger("cfgsync.reconcile")


@dataclass(eq=False)
class HintListener:
    """Calls `heard(why)` after hints, and after the subscription was broken. Without hints the source is read every
    `interval` seconds. Run `run()` as a task; `name` is for the log."""

    subscribe: Subscribe
    heard: Callable[[str], object]
    interval: float
    clock: Clock
    random: Callable[[], float]
    name: str
    _tried: asyncio.Event = field(default_factory=asyncio.Event)

    async def subscribed(self) -> None:
        """Return when the first subscription is open, or cannot be opened, or after 2 s."""
        await wait_for(self._tried, SUBSCRIBE_WITHIN, self.clock)

    async def run(self) -> None:
        """Listen until cancelled."""
        failures = 0
        while True:
            opened_at = self.clock.time()
            try:
                async with self.subscribe() as hints:
                    if failures or self._tried.is_set():
                        self.heard("no hints came for a while")
                    self._tried.set()
                    async for _ in hints:
                        self.heard("a hint came")
                        await self._sleep(SETTLE)  # hints that come meanwhile count as one
                why = "the subscription ended"
            except Exception as error:
                why = error_text(error)
            self._tried.set()  # there is nothing to wait for: the timer is enough
            failures = 1 if self.clock.time() - opened_at >= self.interval else failures + 1
            if failures == 1:
                log.warning("%s: no hints (%s); reading it every %g s instead", self.name, why, self.interval)
            await self._sleep(self.random() * min(self.interval, BASE * 2.0 ** min(failures, 16)))

    async def _sleep(self, seconds: float) -> None:
        await wait_for(asyncio.Event(), seconds, self.clock)
