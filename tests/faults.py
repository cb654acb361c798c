"""Faults are values: a store or a bus that fails in one named way, composed like any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from cfgsync_core import (
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
