"""Faults are values: a store or a bus that fails in one named way, composed like any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random

from cfgsync_core import (
    Announced,
    BucketSnapshot,
    Change,
    ChangeHints,
    Entry,
    Gap,
    RevisionedStore,
    Unavailable,
    Unchanged,
    Version,
)


class BrokenStore:
    """A store whose calls fail from the one after `after` on, with `error`, until `mend` is called."""

    def __init__(
        self,
        inner: RevisionedStore,
        after: int = 0,
        error: Callable[[], Exception] = lambda: Unavailable("broken on purpose"),
    ) -> None:
        self._inner = inner
        self._left: int | None = after
        self._error = error

    def mend(self) -> None:
        """Answer every call from now on."""
        self._left = None

    def break_after(self, calls: int) -> None:
        """Answer `calls` more."""
        self._left = calls

    def _count(self) -> None:
        if self._left is None:
            return
        if self._left == 0:
            raise self._error()
        self._left -= 1

    async def version(self, bucket: str) -> Version:
        self._count()
        return await self._inner.version(bucket)

    async def get(self, bucket: str, key: str) -> Entry | None:
        self._count()
        return await self._inner.get(bucket, key)

    async def snapshot(self, bucket: str, known: Version | None = None) -> BucketSnapshot | Unchanged:
        self._count()
        return await self._inner.snapshot(bucket, known)

    async def commit(
        self, bucket: str, writes: Mapping[str, bytes | None], expected: Mapping[str, int] | None = None
    ) -> Version:
        self._count()
        return await self._inner.commit(bucket, writes, expected)

    async def changes(self, bucket: str, since: Version) -> Sequence[Change] | Gap:
        self._count()
        return await self._inner.changes(bucket, since)


class LostHints:
    """Every hint is lost."""

    def __init__(self, inner: ChangeHints) -> None:
        self._inner = inner

    async def publish(self, bucket: str) -> None:
        return None

    def subscribe(self, bucket: str) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        return self._inner.subscribe(bucket)


class DoubledHints:
    """Every hint comes `times` times."""

    def __init__(self, inner: ChangeHints, times: int = 2) -> None:
        self._inner = inner
        self._times = times

    async def publish(self, bucket: str) -> None:
        for _ in range(self._times):
            await self._inner.publish(bucket)

    def subscribe(self, bucket: str) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        return self._inner.subscribe(bucket)


class LateHints:
    """Every hint comes after a random time of up to `seconds`, so they overtake each other."""

    def __init__(self, inner: ChangeHints, seconds: float, random: Random) -> None:
        self._inner = inner
        self._seconds = seconds
        self._random = random
        self._under_way: set[asyncio.Task[None]] = set()

    async def publish(self, bucket: str) -> None:
        async def later() -> None:
            await asyncio.sleep(self._random.random() * self._seconds)
            await self._inner.publish(bucket)

        task = asyncio.create_task(later())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def subscribe(self, bucket: str) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        return self._inner.subscribe(bucket)


class DeadHints:
    """A bus that raises, which the contract of hints forbids and a transport does all the same."""

    async def publish(self, bucket: str) -> None:
        raise ConnectionError("the bus is dead")

    @asynccontextmanager
    async def subscribe(self, bucket: str) -> AsyncIterator[AsyncIterator[None]]:
        raise ConnectionError("the bus is dead")
        yield  # a generator all the same


class HangingHints(DeadHints):
    """A bus that never answers."""

    async def publish(self, bucket: str) -> None:
        await asyncio.Event().wait()


class DeadEvents:
    """Observers' transport that raises."""

    async def announce(self, subject: str, body: bytes) -> Announced:
        raise ConnectionError("the bus is dead")


class RecordedEvents:
    """Keeps what was announced."""

    def __init__(self) -> None:
        self.announced: list[tuple[str, bytes]] = []

    async def announce(self, subject: str, body: bytes) -> Announced:
        self.announced.append((subject, body))
        return "published"
