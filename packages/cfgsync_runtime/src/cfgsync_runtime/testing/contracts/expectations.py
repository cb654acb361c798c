"""`expected` decides whether a commit happens, and a tombstone keeps the revision of its key."""

from __future__ import annotations

import asyncio

from cfgsync_core import Conflict, Version

from .checked_reads import B, OpenBackend, refused, the_snapshot, values


async def check_expected_zero_means_no_live_value(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        await store.commit(B, {"a": b"1"}, {"a": 0})
        conflict = await refused(store, {"a": b"2"}, {"a": 0})
        assert (conflict.bucket, conflict.key, conflict.expected, conflict.actual) == (B, "a", 0, 1)
        await store.commit(B, {"a": None}, {"a": 1})
        assert (await store.commit(B, {"a": b"3"}, {"a": 0})).revision == 3


async def check_a_tombstone_keeps_its_revision_so_that_recreating_is_not_the_same(
    open_backend: OpenBackend,
) -> None:
    async with open_backend() as (store, *_):
        await store.commit(B, {"a": b"1"})
        await store.commit(B, {"a": None})
        assert await store.get(B, "a") is None
        assert (await refused(store, {"a": b"1"}, {"a": 1})).actual == 2
        assert (await store.commit(B, {"a": b"1"}, {"a": 2})).revision == 3
        assert (await refused(store, {"a": b"2"}, {"a": 1})).actual == 3


async def check_an_expectation_may_name_a_key_that_is_not_written(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        await store.commit(B, {"guard": b"1"})
        assert (await store.commit(B, {"a": b"1"}, {"guard": 1, "absent": 0})).revision == 2
        assert (await refused(store, {"a": b"2"}, {"guard": 2})).key == "guard"
        assert (await refused(store, {"a": b"2"}, {"absent": 5})).actual == 0


async def check_a_conflict_writes_nothing_and_wins_over_no_change(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        version = await store.commit(B, {"a": b"1"})
        await refused(store, {"a": b"2", "b": b"2"}, {"a": 7})
        await refused(store, {"a": b"1"}, {"a": 7})
        await refused(store, {}, {"a": 7})
        assert await store.version(B) == version
        assert values(await the_snapshot(store)) == {"a": b"1"}


async def check_of_many_that_expect_the_same_exactly_one_wins(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        tries = (store.commit(B, {"a": b"%d" % n}, {"a": 0}) for n in range(50))
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(result, Version) for result in results) == 1
        assert all(isinstance(result, Version | Conflict) for result in results)
        assert (await store.version(B)).revision == 1
