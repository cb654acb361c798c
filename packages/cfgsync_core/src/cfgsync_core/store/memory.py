"""The reference store and hints, in one process: the shortest code that does what every engine must do.

Nothing here awaits, so each verb is one step of the event loop and no two commits overlap.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

import msgspec

from ..errors import Conflict, StoreRefused
from .contract import (
    BLOB,
    HISTORY_BYTES,
    HISTORY_REVISIONS,
    NEVER,
    BucketSnapshot,
    Change,
    Entry,
    Gap,
    Unchanged,
    Version,
    check_load,
    check_writes,
    digest_entries,
)
from .epoch import mint_epoch, uuid7


def wall_ms() -> int:
    """Milliseconds since 1970, by the wall clock."""
    return time.time_ns() // 1_000_000


class _Bucket:
    """One bucket. `heads` keeps the last write of each key, None where it was deleted (a tombstone)."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.at_ms = 0
        self.floor = version.revision  # history holds every revision after this one
        self.heads: dict[str, tuple[int, bytes | None, int]] = {}  # revision, value, time
        self.history: deque[Change] = deque()
        self.history_bytes = 0

    def entries(self) -> tuple[Entry, ...]:
        live = ((key, value, at, ms) for key, (at, value, ms) in self.heads.items() if value is not None)
        return tuple(Entry(*fields) for fields in sorted(live))

    def forget_history(self, up_to: int) -> None:
        self.floor = max(self.floor, up_to)
        while self.history and (self.history[0].revision <= self.floor or self.history_bytes > HISTORY_BYTES):
            oldest = self.history.popleft()
            self.floor = max(self.floor, oldest.revision)
            self.history_bytes -= _kept_bytes(oldest.writes)


class MemoryStore:
    """A store whose contents end with its process. `clock` gives milliseconds since 1970; every epoch is later than `after`,
    if one is given."""

    def __init__(self, clock: Callable[[], int] = wall_ms, *, after: str = "") -> None:
        self._clock = clock
        self._after = after
        self._buckets: dict[str, _Bucket] = {}

    async def version(self, bucket: str) -> Version:
        held = self._buckets.get(bucket)
        return NEVER if held is None else held.version

    async def get(self, bucket: str, key: str) -> Entry | None:
        held = self._buckets.get(bucket)
        revision, value, at_ms = _ABSENT if held is None else held.heads.get(key, _ABSENT)
        return None if value is None else Entry(key, value, revision, at_ms)

    async def snapshot(self, bucket: str, known: Version | None = None) -> BucketSnapshot | Unchanged:
        held = self._buckets.get(bucket)
        version, entries = (NEVER, ()) if held is None else (held.version, held.entries())
        if known == version:
            return Unchanged(version)
        return BucketSnapshot(version, entries, digest_entries(version, entries), version.resets(known))

    async def commit(
        self, bucket: str, writes: Mapping[str, bytes | None], expected: Mapping[str, int] | None = None
    ) -> Version:
        check_writes(bucket, writes)
        held = self._buckets.get(bucket)
        heads = {} if held is None else held.heads
        for key, want in (expected or {}).items():
            revision, value, _ = heads.get(key, _ABSENT)
            if (value is not None) if want == 0 else (revision != want):
                raise Conflict(bucket, key, want, revision)
        changed = {key: value for key, value in writes.items() if heads.get(key, _ABSENT)[1] != value}
        if held is None:
            if not changed:
                return NEVER
            epochs = [other.version.epoch for other in self._buckets.values()]
            held = self._buckets[bucket] = _Bucket(Version(mint_epoch([*epochs, self._after]), 0))
        if changed:
            _apply(held, changed, self._clock())
        return held.version

    async def changes(self, bucket: str, since: Version) -> Sequence[Change] | Gap:
        held = self._buckets.get(bucket)
        if held is None:
            return [] if since == NEVER else Gap(NEVER)
        if held.version.resets(since) or since.revision < held.floor:
            return Gap(held.version)
        return [change for change in held.history if change.revision > since.revision]

    async def ping(self) -> None:
        return None

    async def buckets(self) -> Sequence[str]:
        return sorted(self._buckets)

    async def export(self, bucket: str) -> AsyncIterator[Entry]:
        held = self._buckets.get(bucket)
        for entry in () if held is None else held.entries():
            yield entry

    async def load(self, bucket: str, version: Version, entries: Sequence[Entry]) -> None:
        check_load(bucket, version, entries)
        if bucket in self._buckets:
            raise StoreRefused(
                f"bucket {bucket!r} is already there", "load into a store that does not have it"
            )
        held = self._buckets[bucket] = _Bucket(version)
        held.heads = {entry.key: (entry.revision, entry.value, entry.at_ms) for entry in entries}
        held.at_ms = max((entry.at_ms for entry in entries), default=0)

    async def drop(self, bucket: str) -> Version:
        held = self._buckets.get(bucket)
        if held is None:
            return NEVER
        epochs = [other.version.epoch for other in self._buckets.values()]
        version = Version(mint_epoch([*epochs, self._after]), held.version.revision + 1)
        self._buckets[bucket] = _Bucket(version)
        self._buckets[bucket].at_ms = held.at_ms
        return version

    async def new_epoch(self, after: str | None = None) -> Mapping[str, Version]:
        epochs = [held.version.epoch for held in self._buckets.values()]
        epoch = mint_epoch([*epochs, self._after, after or ""])
        for held in self._buckets.values():
            held.version = Version(epoch, held.version.revision)
        return {bucket: held.version for bucket, held in sorted(self._buckets.items())}


_ABSENT: Final = (0, None, 0)


def _kept_bytes(writes: Mapping[str, bytes | None]) -> int:
    """What history costs: a blob is there once, in its entry."""
    return sum(len(value) for key, value in writes.items() if value is not None and not key.startswith(BLOB))


def _apply(held: _Bucket, changed: Mapping[str, bytes | None], now_ms: int) -> None:
    revision = held.version.revision + 1
    held.at_ms = max(held.at_ms, now_ms)
    floor = revision - HISTORY_REVISIONS
    for key, value in changed.items():
        if key.startswith(BLOB):
            floor = max(
                floor, held.heads.get(key, _ABSENT)[0]
            )  # the earlier history cannot return that blob any more
        if value is None and key.startswith(BLOB):
            del held.heads[key]  # content named by its digest is the same when it returns: no tombstone
        else:
            held.heads[key] = (revision, value, held.at_ms)
    held.history.append(Change(revision, uuid7(), held.at_ms, changed))
    held.history_bytes += _kept_bytes(changed)
    held.version = Version(held.version.epoch, revision)
    held.forget_history(floor)


class _Subscription(msgspec.Struct, eq=False):
    """An iterator of hints; those that arrive before the next `anext` count as one."""

    heard: asyncio.Event
    closed: bool = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        await self.heard.wait()
        if self.closed:
            raise StopAsyncIteration
        self.heard.clear()


class MemoryHints:
    """Hints within one event loop."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, list[_Subscription]] = {}

    async def publish(self, bucket: str) -> None:
        self.wake(bucket)

    def wake(self, bucket: str) -> None:
        """`publish` without a loop."""
        for subscription in self._subscriptions.get(bucket, ()):
            subscription.heard.set()

    @asynccontextmanager
    async def subscribe(self, bucket: str) -> AsyncIterator[AsyncIterator[None]]:
        subscription = _Subscription(asyncio.Event())
        self._subscriptions.setdefault(bucket, []).append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[bucket].remove(subscription)
            subscription.closed = True
            subscription.heard.set()
