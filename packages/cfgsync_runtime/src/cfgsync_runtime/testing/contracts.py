"""What every engine must do, as functions: each opens a store, acts, and asserts one promise of `RevisionedStore`.

`open_store` opens an empty store each time a check begins. A check is named after its promise; those with a number keep
that of the invariant in the design. `CHECKS` are for every engine, `DURABLE_CHECKS` for those that outlive a process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from random import Random
from typing import TypeAlias

from cfgsync_core import (
    BLOB,
    HISTORY_REVISIONS,
    NEVER,
    BucketSnapshot,
    Change,
    Conflict,
    Engine,
    Entry,
    Gap,
    MemoryHints,
    StoreRefused,
    Unchanged,
    Version,
    epoch_ms,
    hinting,
    uuid7,
)

from .faults import DeadEvents, DeadHints, HangingHints

OpenStore: TypeAlias = Callable[[], AbstractAsyncContextManager[Engine]]
Check: TypeAlias = Callable[[OpenStore], Awaitable[None]]

B = "registrations"


async def the_snapshot(store: Engine, bucket: str = B, known: Version | None = None) -> BucketSnapshot:
    """The whole snapshot of a bucket, checked."""
    found = await store.snapshot(bucket, known)
    assert isinstance(found, BucketSnapshot), found
    assert found.is_whole()
    assert [entry.key for entry in found.entries] == sorted(entry.key for entry in found.entries)
    return found


async def the_changes(store: Engine, since: Version = NEVER, bucket: str = B) -> list[Change]:
    """The history after `since`, contiguous up to the current version."""
    found = await store.changes(bucket, since)
    assert not isinstance(found, Gap), found
    current = await store.version(bucket)
    assert [change.revision for change in found] == list(range(since.revision + 1, current.revision + 1))
    return list(found)


def values(snapshot: BucketSnapshot) -> dict[str, bytes]:
    return {entry.key: entry.value for entry in snapshot.entries}


async def refused(store: Engine, writes: Mapping[str, bytes | None], expected: Mapping[str, int]) -> Conflict:
    """The conflict that a commit must end in."""
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


# Versions and values


async def check_a_bucket_that_was_never_written_is_at_never(open_store: OpenStore) -> None:
    async with open_store() as store:
        assert await store.version(B) == NEVER
        assert await store.get(B, "a") is None
        assert await store.snapshot(B, NEVER) == Unchanged(NEVER)
        assert values(await the_snapshot(store)) == {}
        assert await the_changes(store) == []
        assert await store.commit(B, {}) == NEVER
        assert await store.commit(B, {"a": None}) == NEVER
        assert list(await store.buckets()) == []


async def check_a_commit_is_read_back_with_the_revision_that_wrote_it(open_store: OpenStore) -> None:
    async with open_store() as store:
        first = await store.commit(B, {"a": b"1", "b": b""})
        second = await store.commit(B, {"ü/\u20ac \"x'": bytes(range(256))})
        assert (first.revision, second.revision) == (1, 2)
        assert first.epoch == second.epoch
        assert await store.version(B) == second
        assert await store.get(B, "b") == Entry("b", b"", 1)
        assert await store.get(B, "ü/\u20ac \"x'") == Entry("ü/\u20ac \"x'", bytes(range(256)), 2)
        assert values(await the_snapshot(store)) == {"a": b"1", "b": b"", "ü/\u20ac \"x'": bytes(range(256))}


async def check_buckets_do_not_touch_each_other_and_each_has_its_epoch(open_store: OpenStore) -> None:
    async with open_store() as store:
        one = await store.commit("one", {"a": b"1"})
        two = await store.commit("two", {"a": b"2"})
        assert (one.revision, two.revision) == (1, 1)
        assert epoch_ms(two.epoch) > epoch_ms(one.epoch)  # later than all that the store holds
        assert (await the_snapshot(store, "one")).version == one
        assert await store.get("two", "a") == Entry("a", b"2", 1)
        assert list(await store.buckets()) == ["one", "two"]


async def check_a_commit_that_changes_nothing_makes_no_revision(open_store: OpenStore) -> None:
    async with open_store() as store:
        version = await store.commit(B, {"a": b"1"})
        assert await store.commit(B, {"a": b"1"}) == version
        assert await store.commit(B, {"absent": None}) == version
        assert await store.commit(B, {}) == version
        assert await store.commit(B, {"a": b"1"}, {"a": 1}) == version
        assert len(await the_changes(store)) == 1


async def check_only_the_changed_keys_of_a_commit_get_its_revision(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.commit(B, {"a": b"1", "b": b"1"})
        await store.commit(B, {"a": b"1", "b": b"2", "c": None})
        assert {e.key: e.revision for e in (await the_snapshot(store)).entries} == {"a": 1, "b": 2}
        assert [dict(change.writes) for change in await the_changes(store)] == [
            {"a": b"1", "b": b"1"},
            {"b": b"2"},
        ]


async def check_words_that_no_engine_can_hold_are_refused_and_harm_nobody(open_store: OpenStore) -> None:
    async with open_store() as store:
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


# Expectations


async def check_expected_zero_means_no_live_value(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.commit(B, {"a": b"1"}, {"a": 0})
        conflict = await refused(store, {"a": b"2"}, {"a": 0})
        assert (conflict.bucket, conflict.key, conflict.expected, conflict.actual) == (B, "a", 0, 1)
        await store.commit(B, {"a": None}, {"a": 1})
        assert (await store.commit(B, {"a": b"3"}, {"a": 0})).revision == 3


async def check_a_tombstone_keeps_its_revision_so_that_recreating_is_not_the_same(
    open_store: OpenStore,
) -> None:
    async with open_store() as store:
        await store.commit(B, {"a": b"1"})
        await store.commit(B, {"a": None})
        assert await store.get(B, "a") is None
        assert (await refused(store, {"a": b"1"}, {"a": 1})).actual == 2
        assert (await store.commit(B, {"a": b"1"}, {"a": 2})).revision == 3
        assert (await refused(store, {"a": b"2"}, {"a": 1})).actual == 3


async def check_an_expectation_may_name_a_key_that_is_not_written(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.commit(B, {"guard": b"1"})
        assert (await store.commit(B, {"a": b"1"}, {"guard": 1, "absent": 0})).revision == 2
        assert (await refused(store, {"a": b"2"}, {"guard": 2})).key == "guard"
        assert (await refused(store, {"a": b"2"}, {"absent": 5})).actual == 0


async def check_a_conflict_writes_nothing_and_wins_over_no_change(open_store: OpenStore) -> None:
    async with open_store() as store:
        version = await store.commit(B, {"a": b"1"})
        await refused(store, {"a": b"2", "b": b"2"}, {"a": 7})
        await refused(store, {"a": b"1"}, {"a": 7})
        await refused(store, {}, {"a": 7})
        assert await store.version(B) == version
        assert values(await the_snapshot(store)) == {"a": b"1"}


async def check_of_many_that_expect_the_same_exactly_one_wins(open_store: OpenStore) -> None:
    async with open_store() as store:
        tries = (store.commit(B, {"a": b"%d" % n}, {"a": 0}) for n in range(50))
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(result, Version) for result in results) == 1
        assert all(isinstance(result, Version | Conflict) for result in results)
        assert (await store.version(B)).revision == 1


# Snapshots and history


async def check_unchanged_exactly_when_the_version_is_the_current_one(open_store: OpenStore) -> None:
    async with open_store() as store:
        first = await store.commit(B, {"a": b"1"})
        assert await store.snapshot(B, first) == Unchanged(first)
        second = await store.commit(B, {"a": b"2"})
        for known in (None, NEVER, first):
            assert not (await the_snapshot(store, known=known)).reset
        assert await store.snapshot(B, second) == Unchanged(second)


async def check_inv_08_a_reader_ahead_of_the_store_is_told_reset_and_never_unchanged(
    open_store: OpenStore,
) -> None:
    async with open_store() as store:
        stranger = Version(uuid7(), 1)
        assert (await the_snapshot(store, known=stranger)).reset
        assert await store.changes(B, stranger) == Gap(NEVER)
        current = await store.commit(B, {"a": b"1"})
        for known in (Version(current.epoch, 2), stranger, Version(stranger.epoch, 0)):
            snapshot = await the_snapshot(store, known=known)
            assert snapshot.reset
            assert snapshot.version == current
            assert await store.changes(B, known) == Gap(current)


async def check_changes_are_every_commit_after_a_version_in_order(open_store: OpenStore) -> None:
    async with open_store() as store:
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


async def check_the_last_thousand_revisions_are_told_and_before_them_an_honest_gap(
    open_store: OpenStore,
) -> None:
    async with open_store() as store:
        total = 2 * HISTORY_REVISIONS + 300
        versions = await asyncio.gather(*(store.commit(B, {"k": b"%d" % n}) for n in range(total)))
        current = versions[-1]
        assert current.revision == total
        told = await the_changes(store, versions[total - HISTORY_REVISIONS - 1])
        assert [dict(c.writes) for c in told] == [
            {"k": b"%d" % n} for n in range(total - HISTORY_REVISIONS, total)
        ]
        assert await store.changes(B, NEVER) == Gap(current)
        assert await store.changes(B, versions[0]) == Gap(current)


async def check_history_tells_a_blob_until_it_is_deleted_and_then_a_gap(open_store: OpenStore) -> None:
    async with open_store() as store:
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
        assert await store.get(B, blob) == Entry(blob, content, again.revision)


async def check_time_in_history_never_goes_backwards(open_store: OpenStore) -> None:
    async with open_store() as store:
        before = time.time_ns() // 1_000_000
        for n in range(20):
            await store.commit(B, {"a": b"%d" % n})
        times = [change.at_ms for change in await the_changes(store)]
        assert times == sorted(times)
        assert before <= times[0] <= times[-1] <= time.time_ns() // 1_000_000


async def check_inv_09_a_snapshot_under_concurrent_writers_is_one_cut(open_store: OpenStore) -> None:
    """Each writer rewrites two keys in one commit: a cut never holds one without the other."""
    async with open_store() as store:
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
    open_store: OpenStore, seed: int | None = None
) -> None:
    """Random commits of 16 writers against a dict (printed seed)."""
    seed = Random().randrange(2**32) if seed is None else seed
    print(f"seed {seed}")
    random = Random(seed)
    refusals: list[Conflict] = []
    async with open_store() as store:

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
                assert value != (held and held.value), "a key that did not change is told as changed"
                if value is not None:
                    model[key] = Entry(key, value, change.revision)
        assert (await the_snapshot(store)).entries == tuple(model[key] for key in sorted(model))
        for key, entry in model.items():
            assert await store.get(B, key) == entry


# Commit, group, publish


async def check_inv_01_when_a_hint_is_seen_a_read_returns_what_was_committed_before_it(
    open_store: OpenStore,
) -> None:
    hints = MemoryHints()
    async with open_store() as engine, hinting(engine, hints) as store, hints.subscribe(B) as heard:
        committed: list[Version] = []

        async def write(name: str) -> None:
            for n in range(30):
                committed.append(await store.commit(B, {name: b"%d" % n}))
                await asyncio.sleep(0)

        writers = asyncio.gather(*(write(f"w{n}") for n in range(4)))
        while not (writers.done() and (await store.version(B)).revision == 120):
            await asyncio.wait_for(anext(heard), 5)
            newest = max(committed, default=NEVER)
            assert (await store.version(B)).revision >= newest.revision
            assert (await the_snapshot(engine)).version.revision >= newest.revision
        await writers


async def check_inv_02_a_dead_bus_never_fails_a_write(open_store: OpenStore) -> None:
    for bus in (DeadHints(), HangingHints()):
        async with open_store() as engine:
            store = hinting(engine, bus, DeadEvents())
            version = await asyncio.wait_for(store.commit(B, {"a": b"1"}), 0.9)
            assert await store.get(B, "a") == Entry("a", b"1", version.revision)
            await store.__aexit__(None, None, None)


async def check_inv_19_every_commit_id_is_in_history_once_and_refusals_never(open_store: OpenStore) -> None:
    async with open_store() as store:
        tries = [store.commit(B, {f"k{n % 40}": b"%d" % n}, {f"k{n % 40}": 0}) for n in range(400)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        accepted = {r.revision: n for n, r in enumerate(results) if isinstance(r, Version)}
        told = await the_changes(store)
        assert len({change.commit_id for change in told}) == len(told) == len(accepted) == 40
        assert all(epoch_ms(change.commit_id) for change in told)
        for change in told:
            n = accepted[change.revision]
            assert dict(change.writes) == {f"k{n % 40}": b"%d" % n}


async def check_inv_21_in_a_group_with_conflicting_members_the_others_commit(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.commit(B, {"taken": b"1"})
        tries = (
            store.commit(B, {f"k{n}": b"1"}, {"taken": 0} if n % 3 == 0 else {f"k{n}": 0}) for n in range(90)
        )
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert [isinstance(r, Conflict) for r in results] == [n % 3 == 0 for n in range(90)]
        revisions = [r.revision for r in results if isinstance(r, Version)]
        assert revisions == list(range(2, 62))  # contiguous, in the order of the calls
        assert len(values(await the_snapshot(store))) == 61


async def check_a_group_sees_the_effects_of_its_earlier_members(open_store: OpenStore) -> None:
    async with open_store() as store:
        blob = BLOB + "f" * 64
        results = await asyncio.gather(
            store.commit(B, {"a": b"1"}),
            store.commit(B, {"a": b"1"}),
            store.commit(B, {"a": b"2"}, {"a": 1}),
            store.commit(B, {"a": None}),
            store.commit(B, {"a": None}),
            store.commit(B, {"a": b"3"}, {"a": 3}),
            store.commit(B, {blob: b"content"}),
            store.commit(B, {blob: None}),
        )
        assert [version.revision for version in results] == [1, 1, 2, 3, 3, 4, 5, 6]
        assert values(await the_snapshot(store)) == {"a": b"3"}
        assert await store.get(B, blob) is None
        assert await store.changes(B, results[5]) == Gap(results[-1])
        assert len(await the_changes(store, results[6])) == 1


async def check_a_cancelled_commit_goes_on_to_its_end(open_store: OpenStore) -> None:
    async with open_store() as store:
        task = asyncio.create_task(store.commit(B, {"a": b"1"}))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        version = await store.commit(B, {})  # returns after those before it
        assert version.revision == 1
        assert await store.get(B, "a") == Entry("a", b"1", 1)


async def check_what_the_caller_changes_after_the_call_is_not_committed(open_store: OpenStore) -> None:
    async with open_store() as store:
        writes: dict[str, bytes | None] = {"a": b"1"}
        task = asyncio.create_task(store.commit(B, writes))
        await asyncio.sleep(0)
        writes["b"] = b"2"
        await task
        assert values(await the_snapshot(store)) == {"a": b"1"}


# What an operator asks


async def check_export_and_load_move_a_bucket_with_its_version(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.ping()
        await store.commit(B, {"a": b"1", "b": b"1"})
        version = await store.commit(B, {"b": b"2", "c": None})
        entries = [entry async for entry in store.export(B)]
        assert entries == [Entry("a", b"1", 1), Entry("b", b"2", 2)]
        await store.load("copy", version, entries)
        copy = await the_snapshot(store, "copy")
        assert (copy.version, list(copy.entries)) == (version, entries)
        assert await store.changes("copy", version) == []
        assert await store.changes("copy", NEVER) == Gap(version)
        after = await store.commit("copy", {"a": b"9"}, {"a": 1})
        assert after == Version(version.epoch, 3)
        assert [c.revision for c in await the_changes(store, version, "copy")] == [3]
        try:
            await store.load("copy", version, entries)
        except StoreRefused as refusal:
            assert refusal.hint  # noqa: PT017  # this is no test function: pytest is not imported here
        else:
            raise AssertionError("a bucket was loaded over another")
        assert await is_refused_as_value(store.load("x", version, [Entry("a", b"", 3)]))
        assert await is_refused_as_value(store.load("x", version, [entries[0], entries[0]]))


async def check_a_new_epoch_is_later_than_all_and_keeps_the_revisions(open_store: OpenStore) -> None:
    async with open_store() as store:
        old = [await store.commit(name, {"a": b"1"}) for name in ("one", "two")]
        after = uuid7(time.time_ns() // 1_000_000 + 3_600_000)  # a store that lived an hour ahead
        new = await store.new_epoch(after)
        assert list(new) == ["one", "two"]
        for name, before in zip(new, old, strict=True):
            assert new[name].revision == before.revision
            assert epoch_ms(new[name].epoch) > max(epoch_ms(before.epoch), epoch_ms(after))
            assert await store.version(name) == new[name]
            assert (await the_snapshot(store, name, known=before)).reset
        assert epoch_ms((await store.commit("three", {"a": b"1"})).epoch) > epoch_ms(new["two"].epoch)


CHECKS: tuple[Check, ...] = tuple(
    value for name, value in list(globals().items()) if name.startswith("check_") and callable(value)
)


# Engines that outlive a process


async def check_a_restart_gives_the_same_contents(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.commit(B, {"a": b"1", "b": b"1"})
        await store.commit(B, {"a": None, BLOB + "x": b"content"})
        await store.commit("other", {"c": b"1"})
        before = [await the_snapshot(store, name) for name in await store.buckets()]
        told = await the_changes(store)
    async with open_store() as store:
        assert [await the_snapshot(store, name) for name in await store.buckets()] == before
        assert await the_changes(store) == told
        assert (await refused(store, {"a": b"2"}, {"a": 1})).actual == 2  # the tombstone too
        assert await store.commit(B, {"b": b"1"}) == before[1].version
        assert (await store.commit(B, {"b": b"2"})) == Version(before[1].version.epoch, 3)


async def check_commits_under_way_end_before_the_store_closes(open_store: OpenStore) -> None:
    async with open_store() as store:
        tasks = [asyncio.create_task(store.commit(B, {f"k{n}": b"1"})) for n in range(200)]
        await asyncio.sleep(0)
    assert sorted(version.revision for version in await asyncio.gather(*tasks)) == list(range(1, 201))
    async with open_store() as store:
        assert len((await the_snapshot(store)).entries) == 200


DURABLE_CHECKS: tuple[Check, ...] = (
    check_a_restart_gives_the_same_contents,
    check_commits_under_way_end_before_the_store_closes,
)
