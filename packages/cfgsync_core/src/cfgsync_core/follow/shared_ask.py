"""One question for many: each call is answered by a question that began after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedAsk(Generic[T]):
    """`ask()` awaits `question()`, one at a time; calls that come while one is under way share the next one. What it raises,
    each of them raises."""

    def __init__(self, question: Callable[[], Awaitable[T]]) -> None:
        self._question = question
        self._going: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def ask(self) -> T:
        """A call that is cancelled leaves the question to the others."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._going))
            self._next.add_done_callback(_read)
        return await asyncio.shield(self._next)

    async def _after(self, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait([before])
        self._going, self._next = self._next, None
        return await self._question()


def _read(asked: asyncio.Task[T]) -> None:
    """Its callers may all have gone."""
    if not asked.cancelled():
        asked.exception()
