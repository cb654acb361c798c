"""Versions count commits that changed something, and what was committed is read back."""

from __future__ import annotations

import asyncio

from cfgsync_core import NEVER, Entry, Unchanged, Version
from cfgsync_core.store import epoch_ms

from .checked_reads import B, OpenBackend, is_refused_as_value, the_changes, the_snapshot, timeless, values


async def check_a_bucket_that_was_never_written_is_at_never(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, admin, *_):
        assert await store.version(B) == NEVER
        assert await store.get(B, "a") is None
        assert await store.snapshot(B, NEVER) == Unchanged(NEVER)
        assert values(await the_snapshot(store)) == {}
        assert await the_changes(store) == []
        assert await store.commit(B, {}) == NEVER
        assert await store.commit(B, {"a": None}) == NEVER
        assert list(await admin.buckets()) == []


async def check_a_commit_is_read_back_with_the_revision_that_wrote_it(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        first = await store.commit(B, {"a": b"1", "b": b""})
        second = await store.commit(B, {"ü/\u20ac \"x'": bytes(range(256))})
        assert (first.revision, second.revision) == (1, 2)
        assert first.epoch == second.epoch
        assert await store.version(B) == second
        assert timeless(await store.get(B, "b")) == [Entry("b", b"", 1)]
        assert timeless(await store.get(B, "ü/\u20ac \"x'")) == [Entry("ü/\u20ac \"x'", bytes(range(256)), 2)]
        assert values(await the_snapshot(store)) == {"a": b"1", "b": b"", "ü/\u20ac \"x'": bytes(range(256))}


async def check_buckets_do_not_touch_each_other_and_each_has_its_epoch(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, admin, *_):
        one = await store.commit("one", {"a": b"1"})
        two = await store.commit("two", {"a": b"2"})
        assert (one.revision, two.revision) == (1, 1)
        assert epoch_ms(two.epoch) > epoch_ms(one.epoch)  # later than all that the store holds
        assert (await the_snapshot(store, "one")).version == one
        assert timeless(await store.get("two", "a")) == [Entry("a", b"2", 1)]
        assert list(await admin.buckets()) == ["one", "two"]


async def check_a_commit_that_changes_nothing_makes_no_revision(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        version = await store.commit(B, {"a": b"1"})
        assert await store.commit(B, {"a": b"1"}) == version
        assert await store.commit(B, {"absent": None}) == version
        assert await store.commit(B, {}) == version
        assert await store.commit(B, {"a": b"1"}, {"a": 1}) == version
        assert len(await the_changes(store)) == 1


async def check_only_the_changed_keys_of_a_commit_get_its_revision(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        await store.commit(B, {"a": b"1", "b": b"1"})
        await store.commit(B, {"a": b"1", "b": b"2", "c": None})
        assert {e.key: e.revision for e in (await the_snapshot(store)).entries} == {"a": 1, "b": 2}
        assert [dict(change.writes) for change in await the_changes(store)] == [
            {"a": b"1", "b": b"1"},
            {"b": b"2"},
        ]


async def check_invalid_names_and_values_are_refused_and_do_not_harm_other_commits(
    open_backend: OpenBackend,
) -> None:
    async with open_backend() as (store, *_):
        wrong = [
            is_refused_as_value(store.commit(B, {"": b""})),
            is_refused_as_value(store.commit(B, {"a\0b": b""})),
            is_refused_as_value(store.commit(B, {"\ud800": b""})),
            is_refused_as_value(store.commit("", {"a": b""})),
            is_refused_as_value(store.commit(B, {"a": "text"})),  # type: ignore[dict-item]
        ]
        *refusals, version = await asyncio.gather(*wrong, store.commit(B, {"good": b"1"}))
        assert refusals == [True] * len(wrong)
        assert isinstance(version, Version)
        assert values(await the_snapshot(store)) == {"good": b"1"}
