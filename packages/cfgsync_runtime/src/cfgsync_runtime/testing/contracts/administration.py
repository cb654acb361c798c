"""Export, load and new epochs keep the numbers that readers know."""

from __future__ import annotations

import time

from cfgsync_core import NEVER, Entry, Gap, StoreRefused, Version
from cfgsync_core.store import epoch_ms, uuid7

from .checked_reads import B, OpenBackend, is_refused_as_value, the_changes, the_snapshot, timeless


async def check_export_and_load_move_a_bucket_with_its_version(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, admin, *_):
        await admin.ping()
        await store.commit(B, {"a": b"1", "b": b"1"})
        version = await store.commit(B, {"b": b"2", "c": None})
        entries = [entry async for entry in admin.export(B)]
        assert timeless(*entries) == [Entry("a", b"1", 1), Entry("b", b"2", 2)]
        await admin.load("copy", version, entries)
        copy = await the_snapshot(store, "copy")
        assert (copy.version, list(copy.entries)) == (version, entries)
        assert await store.changes("copy", version) == []
        assert await store.changes("copy", NEVER) == Gap(version)
        after = await store.commit("copy", {"a": b"9"}, {"a": 1})
        assert after == Version(version.epoch, 3)
        assert [c.revision for c in await the_changes(store, version, "copy")] == [3]
        try:
            await admin.load("copy", version, entries)
        except StoreRefused as refusal:
            assert refusal.hint  # noqa: PT017  # this is no test function: pytest is not imported here
        else:
            raise AssertionError("a bucket was loaded over another")
        assert await is_refused_as_value(admin.load("x", version, [Entry("a", b"", 3)]))
        assert await is_refused_as_value(admin.load("x", version, [entries[0], entries[0]]))


async def check_a_new_epoch_is_later_than_all_and_keeps_the_revisions(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, admin, *_):
        old = [await store.commit(name, {"a": b"1"}) for name in ("one", "two")]
        after = uuid7(time.time_ns() // 1_000_000 + 3_600_000)  # a store that lived an hour ahead
        new = await admin.new_epoch(after)
        assert list(new) == ["one", "two"]
        for name, before in zip(new, old, strict=True):
            assert new[name].revision == before.revision
            assert epoch_ms(new[name].epoch) > max(epoch_ms(before.epoch), epoch_ms(after))
            assert await store.version(name) == new[name]
            assert (await the_snapshot(store, name, known=before)).reset
        assert epoch_ms((await store.commit("three", {"a": b"1"})).epoch) > epoch_ms(new["two"].epoch)


async def check_a_dropped_bucket_is_empty_and_strands_no_reader(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, admin, *_):
        assert await admin.drop("never written") == NEVER
        await store.commit("other", {"a": b"1"})
        before = await store.commit(B, {"a": b"1", "b": b"1"})
        dropped = await admin.drop(B)
        assert (dropped.epoch > before.epoch, dropped.revision) == (True, before.revision + 1)
        cut = await the_snapshot(store, known=before)
        assert (cut.version, cut.entries, cut.reset) == (dropped, (), True)
        assert await store.get(B, "a") is None
        assert await store.changes(B, before) == Gap(dropped)
        after = await store.commit(B, {"a": b"2"}, {"a": 0})
        assert after == Version(dropped.epoch, dropped.revision + 1)
        assert timeless(await store.get(B, "a")) == [Entry("a", b"2", after.revision)]
        assert [change.revision for change in await the_changes(store, dropped)] == [after.revision]
        assert timeless(await store.get("other", "a")) == [Entry("a", b"1", 1)]
