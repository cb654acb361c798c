"""A snapshot is one cut, history is contiguous or an honest gap, and a reader that is ahead gets a reset."""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from random import Random

from cfgsync_core import NEVER, Conflict, Entry, Gap, Unchanged, Version
from cfgsync_core.store import BLOB, HISTORY_BYTES, HISTORY_REVISIONS, uuid7

from .checked_reads import B, OpenBackend, the_changes, the_snapshot, timeless, values


async def check_unchanged_exactly_when_the_version_is_the_current_one(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        first = await store.commit(B, {"a": b"1"})
        assert await store.snapshot(B, first) == Unchanged(first)
        second = await store.commit(B, {"a": b"2"})
        for known in (None, NEVER, first):
            assert not (await the_snapshot(store, known=known)).reset
        assert await store.snapshot(B, second) == Unchanged(second)


async def check_inv_08_a_reader_ahead_of_the_store_is_told_reset_and_never_unchanged(
    open_backend: OpenBackend,
) -> None:
    async with open_backend() as (store, *_):
        stranger = Version(uuid7(), 1)
        assert (await the_snapshot(store, known=stranger)).reset
        assert await store.changes(B, stranger) == Gap(NEVER)
        current = await store.commit(B, {"a": b"1"})
        for known in (Version(current.epoch, 2), stranger, Version(stranger.epoch, 0)):
            snapshot = await the_snapshot(store, known=known)
            assert snapshot.reset
            assert snapshot.version == current
            assert await store.changes(B, known) == Gap(current)


async def check_changes_are_every_commit_after_a_version_in_order(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        first = await store.commit(B, {"a": b"1", "b": b"1"})
        await store.commit(B, {"a": None})
        last = await store.commit(B, {"b": b"2"})
        assert [dict(c.writes) for c in await the_changes(store)] == [
            {"a": b"1", "b": b"1"},
            {"a": None},
            {"b": b"2"},
        ]
        assert [c.revision for c in await the_changes(store, first)] == [2, 3]
        assert await the_changes(store, last) == []


async def check_the_last_thousand_revisions_are_returned_and_before_them_a_gap(
    open_backend: OpenBackend,
) -> None:
    async with open_backend() as (store, *_):
        total = 2 * HISTORY_REVISIONS + 300
        versions = await asyncio.gather(*(store.commit(B, {"k": b"%d" % n}) for n in range(total)))
        current = versions[-1]
        assert current.revision == total
        changes = await the_changes(store, versions[total - HISTORY_REVISIONS - 1])
        assert [dict(c.writes) for c in changes] == [
            {"k": b"%d" % n} for n in range(total - HISTORY_REVISIONS, total)
        ]
        assert await store.changes(B, NEVER) == Gap(current)
        assert await store.changes(B, versions[0]) == Gap(current)


async def check_history_returns_a_blob_until_it_is_deleted_and_then_a_gap(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        content = b"x" * 10_000
        blob = BLOB + sha256(content).hexdigest()
        first = await store.commit(B, {"a": b"1"})
        second = await store.commit(B, {blob: content, "b": b"1"})
        third = await store.commit(B, {"c": b"1"})
        assert dict((await the_changes(store, first))[0].writes) == {blob: content, "b": b"1"}
        fourth = await store.commit(B, {blob: None})
        assert await store.changes(B, NEVER) == Gap(fourth)
        assert await store.changes(B, first) == Gap(fourth)
        assert [dict(c.writes) for c in await the_changes(store, second)] == [{"c": b"1"}, {blob: None}]
        assert [dict(c.writes) for c in await the_changes(store, third)] == [{blob: None}]
        again = await store.commit(B, {blob: content}, {blob: 0})
        assert dict((await the_changes(store, third))[-1].writes) == {blob: content}
        assert timeless(await store.get(B, blob)) == [Entry(blob, content, again.revision)]


async def check_time_in_history_never_goes_backwards(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        before = time.time_ns() // 1_000_000
        for n in range(20):
            await store.commit(B, {"a": b"%d" % n})
        times = [change.at_ms for change in await the_changes(store)]
        assert times == sorted(times)
        assert before <= times[0] <= times[-1] <= time.time_ns() // 1_000_000


async def check_inv_09_a_snapshot_under_concurrent_writers_is_one_cut(open_backend: OpenBackend) -> None:
    """Each writer rewrites two keys in one commit: a cut never holds one without the other."""
    async with open_backend() as (store, *_):
        running = True

        async def write(name: str) -> None:
            n = 0
            while running:
                n += 1
                value = b"%d" % n * 50
                await store.commit(B, {f"{name}/left": value, f"{name}/right": value})
                await asyncio.sleep(0)  # an engine in memory never waits by itself

        writers = [asyncio.create_task(write(f"w{n}")) for n in range(8)]
        last, seen = NEVER, 0
        while seen < 25:
            snapshot = await the_snapshot(store)
            found = values(snapshot)
            for key, value in found.items():
                name = key.split("/")[0]
                assert found[f"{name}/left"] == found[f"{name}/right"] == value
            assert snapshot.version.revision >= last.revision
            seen += snapshot.version.revision > last.revision
            last = snapshot.version
            await asyncio.sleep(0)
        running = False
        await asyncio.gather(*writers)


async def check_folding_the_history_gives_the_snapshot(
    open_backend: OpenBackend, seed: int | None = None
) -> None:
    """Random commits of 16 writers against a dict (printed seed)."""
    seed = Random().randrange(2**32) if seed is None else seed
    print(f"seed {seed}")
    random = Random(seed)
    refusals: list[Conflict] = []
    async with open_backend() as (store, *_):

        async def write() -> None:
            for _ in range(25):
                writes = {
                    f"k{random.randrange(12)}": random.choice([None, b"x", b"y", b"z"])
                    for _ in range(random.randrange(4))
                }
                expected = (
                    {f"k{random.randrange(12)}": random.choice([0, 0, 1, 5])}
                    if random.random() < 0.3
                    else None
                )
                try:
                    await store.commit(B, writes, expected)
                except Conflict as conflict:
                    refusals.append(conflict)
                if random.random() < 0.5:
                    await asyncio.sleep(0)

        await asyncio.gather(*(write() for _ in range(16)))
        assert refusals
        model: dict[str, Entry] = {}
        for change in await the_changes(store):
            assert change.writes, "a revision that changes nothing"
            for key, value in change.writes.items():
                held = model.pop(key, None)
                assert value != (held and held.value), "a key that did not change is in a change"
                if value is not None:
                    model[key] = Entry(key, value, change.revision, change.at_ms)
        assert (await the_snapshot(store)).entries == tuple(model[key] for key in sorted(model))
        for key, entry in model.items():
            assert await store.get(B, key) == entry


async def check_an_entry_has_the_time_of_its_commit_which_never_goes_backwards(
    open_backend: OpenBackend,
) -> None:
    async with open_backend() as (store, *_):
        for number in range(40):
            await store.commit(B, {f"k{number % 7}": b"%d" % number, "blob/x": b"%d" % (number // 20)})
        changes = await the_changes(store, Version((await store.version(B)).epoch, 21))
        times = {change.revision: change.at_ms for change in changes}
        assert list(times.values()) == sorted(times.values())
        found = await the_snapshot(store)
        assert {entry.revision: entry.at_ms for entry in found.entries if entry.revision in times} == {
            entry.revision: times[entry.revision] for entry in found.entries if entry.revision in times
        }
        for entry in found.entries:
            assert await store.get(B, entry.key) == entry


async def check_history_is_bounded_by_bytes_as_well(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        value = 1024 * 1024
        for number in range(70):
            await store.commit(B, {f"k{number % 3}": b"%d" % number + bytes(value)})
        epoch, head = await store.version(B)
        assert await store.changes(B, Version(epoch, 0)) == Gap(Version(epoch, head))
        recent = await the_changes(store, Version(epoch, head - 40))
        assert sum(len(each) for change in recent for each in change.writes.values() if each) > 40 * value
        gone, kept = 0, head - 40  # each look reads all that is kept since then, so there are few
        while kept - gone > 1:
            since = (gone + kept) // 2
            is_gone = isinstance(await store.changes(B, Version(epoch, since)), Gap)
            gone, kept = (since, kept) if is_gone else (gone, since)
        assert (head - kept) * value <= HISTORY_BYTES
