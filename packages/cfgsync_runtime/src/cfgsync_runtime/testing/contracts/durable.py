"""Acknowledged commits are there after the store was closed and opened again."""

from __future__ import annotations

import asyncio

from cfgsync_core import Version
from cfgsync_core.store import BLOB

from .checked_reads import B, OpenBackend, refused, the_changes, the_snapshot


async def check_a_restart_gives_the_same_contents(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, admin, *_):
        await store.commit(B, {"a": b"1", "b": b"1"})
        await store.commit(B, {"a": None, BLOB + "x": b"content"})
        await store.commit("other", {"c": b"1"})
        before = [await the_snapshot(store, name) for name in await admin.buckets()]
        changes = await the_changes(store)
    async with open_backend() as (store, admin, *_):
        assert [await the_snapshot(store, name) for name in await admin.buckets()] == before
        assert await the_changes(store) == changes
        assert (await refused(store, {"a": b"2"}, {"a": 1})).actual == 2  # the tombstone too
        assert await store.commit(B, {"b": b"1"}) == before[1].version
        assert (await store.commit(B, {"b": b"2"})) == Version(before[1].version.epoch, 3)


async def check_commits_under_way_end_before_the_store_closes(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        tasks = [asyncio.create_task(store.commit(B, {f"k{n}": b"1"})) for n in range(3000)]
        await asyncio.sleep(0)
    assert sorted(version.revision for version in await asyncio.gather(*tasks)) == list(range(1, 3001))
    async with open_backend() as (store, *_):
        assert len((await the_snapshot(store)).entries) == 3000
