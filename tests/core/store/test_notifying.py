"""Commit first, notify second."""

import asyncio
import json

import pytest

from cfgsync_core import (
    Conflict,
    Gap,
    MemoryHints,
    MemoryStore,
    OutcomeUnknown,
    StoreFull,
    Unavailable,
    Version,
)
from cfgsync_core.store.notifying import NotifyingStore
from tests.faults import BrokenStore


class CountedHints(MemoryHints):
    def __init__(self):
        super().__init__()
        self.published = []

    async def publish(self, bucket):
        self.published.append(bucket)
        await super().publish(bucket)


class RecordedEvents:
    def __init__(self):
        self.announced = []

    async def announce(self, subject, body, identity):
        self.announced.append((subject, json.loads(body)))
        return "published"


class SlowStore(MemoryStore):
    """Its commits end when the test says so, in order, also those whose callers were cancelled."""

    def __init__(self):
        super().__init__()
        self.gate = asyncio.Event()

    async def commit(self, bucket, writes, expected=None):
        async def later():
            await self.gate.wait()
            return await MemoryStore.commit(self, bucket, writes, expected)

        return await asyncio.shield(asyncio.ensure_future(later()))


def described(bucket, version, change):
    return [(bucket, json.dumps({"version": str(version), "writes": list(change.writes)}).encode())]


async def test_a_commit_is_followed_by_a_hint_and_an_event_with_its_version():
    hints, events = CountedHints(), RecordedEvents()
    async with NotifyingStore(MemoryStore(), hints, events, described) as store:
        version = await store.commit("b", {"a": b"1"})
    assert hints.published == ["b"]
    assert events.announced == [("b", {"version": str(version), "writes": ["a"]})]


async def test_commits_of_one_burst_share_a_hint():
    hints = CountedHints()
    async with NotifyingStore(MemoryStore(), hints) as store:
        await asyncio.gather(*(store.commit("b", {f"k{n}": b"1"}) for n in range(100)))
        await store.commit("c", {"a": b"1"})
    assert sorted(hints.published) == ["b", "c"]


async def test_a_commit_during_a_hint_is_followed_by_another_one():
    hints = CountedHints()
    entered, leave = asyncio.Event(), asyncio.Event()

    class HeldHints(CountedHints):
        async def publish(self, bucket):
            await super().publish(bucket)
            entered.set()
            await leave.wait()

    hints = HeldHints()
    async with NotifyingStore(MemoryStore(), hints) as store:
        await store.commit("b", {"a": b"1"})
        await entered.wait()
        await store.commit("b", {"a": b"2"})
        assert hints.published == ["b"]
        leave.set()
    assert hints.published == ["b", "b"]


async def test_a_commit_that_changes_nothing_or_is_refused_sends_no_hint():
    hints = CountedHints()
    async with NotifyingStore(MemoryStore(), hints) as store:
        await store.commit("b", {"a": b"1"})
    async with store:
        await store.commit("b", {"a": b"1"})
        with pytest.raises(Conflict):
            await store.commit("b", {"a": b"2"}, {"a": 9})
    assert hints.published == ["b"]


async def test_a_commit_whose_outcome_is_unknown_sends_a_hint_and_one_that_failed_does_not():
    hints = CountedHints()

    class Failing(MemoryStore):
        error = OutcomeUnknown("lost")

        async def commit(self, bucket, writes, expected=None):
            raise self.error

    engine = Failing()
    async with NotifyingStore(engine, hints) as store:
        with pytest.raises(OutcomeUnknown):
            await store.commit("b", {"a": b"1"})
        engine.error = Unavailable("away")
        with pytest.raises(Unavailable):
            await store.commit("c", {"a": b"1"})
    assert hints.published == ["b"]


async def test_a_cancelled_commit_sends_a_hint_after_its_end():
    hints, engine = CountedHints(), SlowStore()
    async with NotifyingStore(engine, hints) as store:
        call = asyncio.ensure_future(store.commit("b", {"a": b"1"}))
        await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert hints.published == []
        engine.gate.set()
    assert hints.published == ["b"]
    assert (await store.version("b")).revision == 1


async def test_a_bus_that_raises_is_logged_once_for_each_hint(caplog):
    class Dead(MemoryHints):
        async def publish(self, bucket):
            raise ConnectionError("no bus")

    async with NotifyingStore(MemoryStore(), Dead()) as store:
        assert (await store.commit("b", {"a": b"1"})).revision == 1
    assert caplog.messages == ["the hint for bucket 'b' was lost: no bus"]


async def test_the_other_verbs_pass_through():
    async with NotifyingStore(MemoryStore(), MemoryHints()) as store:
        version = await store.commit("b", {"a": b"1"})
        assert isinstance(version, Version)
        assert await store.version("b") == version
        assert (await store.get("b", "a")).value == b"1"
        assert (await store.snapshot("b")).version == version
        assert len(await store.changes("b", Version("", 0))) == 1


async def test_commits_of_one_burst_have_an_event_each_in_the_order_of_their_revisions():
    events = RecordedEvents()
    async with NotifyingStore(MemoryStore(), MemoryHints(), events, described) as store:
        await asyncio.gather(*(store.commit("b", {f"k{n}": b"1"}) for n in range(100)))
    assert [body["writes"] for _, body in events.announced] == [[f"k{n}"] for n in range(100)]
    assert store.tally.events == {"published": 100, "skipped_not_connected": 0, "failed": 0}


async def test_an_event_has_what_its_commit_changed_and_a_commit_that_changed_nothing_has_none():
    events = RecordedEvents()
    async with NotifyingStore(MemoryStore(), MemoryHints(), events, described) as store:
        await store.commit("b", {"a": b"1", "b": b"1"})
        await store.commit("b", {"a": b"1", "b": b"2"})
        await store.commit("b", {"b": b"2"})
    assert [body["writes"] for _, body in events.announced] == [["a", "b"], ["b"]]


async def test_a_bus_that_hangs_delays_no_commit_and_no_end_and_every_event_is_counted(monkeypatch):
    monkeypatch.setattr("cfgsync_core.store.announcing.MAX_WAITING", 10)

    class Hanging:
        async def announce(self, subject, body, identity):
            await asyncio.Event().wait()

    async with asyncio.timeout(20):
        async with NotifyingStore(MemoryStore(), MemoryHints(), Hanging(), described) as store:
            for number in range(30):
                await store.commit("b", {"a": b"%d" % number})
                await asyncio.sleep(0)
    assert store.tally.events == {"published": 0, "skipped_not_connected": 0, "failed": 30}


async def test_events_whose_commits_the_history_has_lost_are_failed():
    class Forgetful(MemoryStore):
        async def changes(self, bucket, since):
            return Gap(await self.version(bucket))

    async with NotifyingStore(Forgetful(), MemoryHints(), RecordedEvents(), described) as store:
        await store.commit("b", {"a": b"1"})
    assert store.tally.events["failed"] == 1


async def test_a_store_that_takes_no_commits_is_a_line_when_it_begins_and_one_when_it_ends(caplog):
    caplog.set_level("INFO", "cfgsync")
    broken = BrokenStore(
        MemoryStore(), error=lambda: StoreFull("no space left for s.db; nothing was written")
    )
    async with NotifyingStore(broken, MemoryHints()) as store:
        for _ in range(3):
            with pytest.raises(StoreFull):
                await store.commit("b", {"a": b"1"})
        broken.mend()
        for value in (b"1", b"2"):
            await store.commit("b", {"a": value})
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the store takes no commits: no space left for s.db; nothing was written"),
        ("INFO", "the store takes commits again"),
    ]


async def test_a_conflict_is_no_failure_of_the_store(caplog):
    caplog.set_level("INFO", "cfgsync")
    async with NotifyingStore(MemoryStore(), MemoryHints()) as store:
        await store.commit("b", {"a": b"1"})
        with pytest.raises(Conflict):
            await store.commit("b", {"a": b"2"}, {"a": 7})
    assert caplog.records == []
