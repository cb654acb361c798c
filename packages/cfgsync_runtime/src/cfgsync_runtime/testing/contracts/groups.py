"""Commits in one group are decided in order, run to their end even if the caller is cancelled, and send hints afterwards."""

from __future__ import annotations

import asyncio

from cfgsync_core import NEVER, Conflict, Entry, Gap, MemoryHints, Version
from cfgsync_core.store import BLOB, NotifyingStore, epoch_ms

from .checked_reads import B, OpenBackend, the_changes, the_snapshot, timeless, values
from .dead_hints import DeadEvents, DeadHints, HangingHints


async def check_inv_01_when_a_hint_is_seen_a_read_returns_what_was_committed_before_it(
    open_backend: OpenBackend,
) -> None:
    hints = MemoryHints()
    async with (
        open_backend() as (engine, *_),
        NotifyingStore(engine, hints) as store,
        hints.subscribe(B) as heard,
    ):
        committed: list[Version] = []

        async def write(name: str) -> None:
            for n in range(30):
                committed.append(await store.commit(B, {name: b"%d" % n}))
                await asyncio.sleep(0)

        writers = asyncio.gather(*(write(f"w{n}") for n in range(4)))
        while (await store.version(B)).revision < 120:  # then another hint is still to come
            await asyncio.wait_for(anext(heard), 5)
            newest = max(committed, default=NEVER)
            assert (await store.version(B)).revision >= newest.revision
            assert (await the_snapshot(engine)).version.revision >= newest.revision
        await writers


async def check_inv_02_a_dead_bus_never_fails_a_write(open_backend: OpenBackend) -> None:
    for bus in (DeadHints(), HangingHints()):
        async with open_backend() as (engine, *_):
            store = NotifyingStore(engine, bus, DeadEvents(), lambda bucket, *_: [(bucket, b"{}")])
            version = await asyncio.wait_for(store.commit(B, {"a": b"1"}), 0.9)
            assert timeless(await store.get(B, "a")) == [Entry("a", b"1", version.revision)]
            await store.__aexit__(None, None, None)


async def check_inv_19_every_commit_id_is_in_history_once_and_refusals_never(
    open_backend: OpenBackend,
) -> None:
    async with open_backend() as (store, *_):
        tries = [store.commit(B, {f"k{n % 40}": b"%d" % n}, {f"k{n % 40}": 0}) for n in range(400)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        accepted = {r.revision: n for n, r in enumerate(results) if isinstance(r, Version)}
        changes = await the_changes(store)
        assert len({change.commit_id for change in changes}) == len(changes) == len(accepted) == 40
        assert all(epoch_ms(change.commit_id) for change in changes)
        for change in changes:
            n = accepted[change.revision]
            assert dict(change.writes) == {f"k{n % 40}": b"%d" % n}


async def check_inv_21_in_a_group_with_conflicting_members_the_others_commit(
    open_backend: OpenBackend,
) -> None:
    async with open_backend() as (store, *_):
        await store.commit(B, {"taken": b"1"})
        tries = (
            store.commit(B, {f"k{n}": b"1"}, {"taken": 0} if n % 3 == 0 else {f"k{n}": 0}) for n in range(90)
        )
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert [isinstance(r, Conflict) for r in results] == [n % 3 == 0 for n in range(90)]
        revisions = [r.revision for r in results if isinstance(r, Version)]
        assert revisions == list(range(2, 62))  # contiguous, in the order of the calls
        assert len(values(await the_snapshot(store))) == 61


async def check_a_group_sees_the_effects_of_its_earlier_members(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
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


async def check_a_cancelled_commit_goes_on_to_its_end(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        task = asyncio.create_task(store.commit(B, {"a": b"1"}))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        version = await store.commit(B, {})  # returns after those before it
        assert version.revision == 1
        assert timeless(await store.get(B, "a")) == [Entry("a", b"1", 1)]


async def check_what_the_caller_changes_after_the_call_is_not_committed(open_backend: OpenBackend) -> None:
    async with open_backend() as (store, *_):
        writes: dict[str, bytes | None] = {"a": b"1"}
        task = asyncio.create_task(store.commit(B, writes))
        await asyncio.sleep(0)
        writes["b"] = b"2"
        await task
        assert values(await the_snapshot(store)) == {"a": b"1"}
