"""Reads of a store for the checks; each result is itself checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import msgspec

from cfgsync_core import (
    NEVER,
    Backend,
    BucketSnapshot,
    Change,
    Conflict,
    Entry,
    Gap,
    RevisionedStore,
    Version,
)

OpenBackend: TypeAlias = Callable[[], AbstractAsyncContextManager[Backend]]
Check: TypeAlias = Callable[[OpenBackend], Awaitable[None]]

B = "registrations"


async def the_snapshot(
    store: RevisionedStore, bucket: str = B, known: Version | None = None
) -> BucketSnapshot:
    """A snapshot of a bucket: whole, and sorted by key."""
    found = await store.snapshot(bucket, known)
    assert isinstance(found, BucketSnapshot), found
    assert found.is_whole()
    assert [entry.key for entry in found.entries] == sorted(entry.key for entry in found.entries)
    return found


async def the_changes(store: RevisionedStore, since: Version = NEVER, bucket: str = B) -> list[Change]:
    """The history after `since`, contiguous up to the current version."""
    found = await store.changes(bucket, since)
    assert not isinstance(found, Gap), found
    current = await store.version(bucket)
    assert [change.revision for change in found] == list(range(since.revision + 1, current.revision + 1))
    return list(found)


def timeless(*entries: Entry | None) -> list[Entry | None]:
    """The entries without their times, each of which must be known."""
    assert all(entry is None or entry.at_ms > 0 for entry in entries), entries
    return [entry and msgspec.structs.replace(entry, at_ms=0) for entry in entries]


def values(snapshot: BucketSnapshot) -> dict[str, bytes]:
    return {entry.key: entry.value for entry in snapshot.entries}


async def refused(
    store: RevisionedStore, writes: Mapping[str, bytes | None], expected: Mapping[str, int]
) -> Conflict:
    """The conflict that a commit must raise."""
    try:
        version = await store.commit(B, writes, expected)
    except Conflict as conflict:
        return conflict
    raise AssertionError(f"{writes} with {expected} was committed at {version}")


async def is_refused_as_value(work: Awaitable[object]) -> bool:
    try:
        await work
    except (ValueError, TypeError):
        return True
    return False
