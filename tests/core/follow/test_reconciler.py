"""The one loop: each invariant of store.md that concerns a reader, by its number, over the engines, in virtual time."""

import asyncio
from contextlib import asynccontextmanager
from random import Random

import msgspec
import pytest

from cfgsync_core import Entry, Gap, MemoryHints, MemoryStore, Unavailable, Version
from cfgsync_core.follow.acceptance import Away, Same, Whole
from cfgsync_core.follow.bucket_view import BucketView
from cfgsync_core.follow.reconciler import Reconciler
from cfgsync_core.follow.timing import ReaderState
from cfgsync_core.store.epoch import mint_epoch, uuid7
from cfgsync_core.store.notifying import NotifyingStore
from cfgsync_runtime import open_backend
from cfgsync_runtime.testing.contracts.dead_hints import DeadHints
from tests.faults import DoubledHints, LostHints
from tests.replicas import CountedStore, Replica
from tests.virtual_time import VirtualClock

B = "registrations"


class House:
    """One store, its hints, and any number of readers of one bucket, on one clock."""

    def __init__(self, engine, seed=1):
        print("seed", seed)
        self.engine = engine
        self.store = CountedStore(engine)
        self.hints = MemoryHints()
        self.clock = VirtualClock(lambda: self.store.busy())
        self.random = Random(seed)

    def reader(self, replica=None, *, hints=None, **words):
        replica = Replica() if replica is None else replica
        bus = self.hints if hints is None else hints
        reader = Reconciler(
            BucketView(self.store, B, replica),
            subscribe=lambda: bus.subscribe(B),
            clock=self.clock,
            random=self.random.random,
            **words,
        )
        return reader, replica

    @asynccontextmanager
    async def reading(self, replica=None, **words):
        reader, replica = self.reader(replica, **words)
        async with reader:
            await self.clock.rest()
            yield reader, replica

    async def write(self, **values):
        """Commit, and whisper nothing."""
        return await self.store.commit(
            B, {key: None if value is None else str(value).encode() for key, value in values.items()}
        )


@pytest.fixture(params=["memory", "sqlite"])
async def house(request, tmp_path):
    if request.param == "memory":
        yield House(MemoryStore())
    else:
        async with open_backend(f"sqlite:{tmp_path}/store.db") as (engine, *_):
            yield House(engine)


async def test_inv_3_a_crash_between_commit_and_publish_costs_one_interval(house):
    await house.write(a=1)
    async with house.reading() as (reader, replica):
        head = await house.write(a=2)  # and its writer is gone before it could whisper
        assert replica.values == {"a": b"1"}
        await house.clock.advance(16.5)
        assert replica.held == head
        assert replica.values == {"a": b"2"}
        assert reader.state is ReaderState.CURRENT


async def test_inv_4_hints_that_are_delivered_are_followed_at_once(house):
    async with NotifyingStore(house.store, house.hints) as store, house.reading() as (_, replica):
        for number in range(5):
            await store.commit(B, {"a": str(number).encode()})
            await house.clock.advance(0.05)
            assert replica.values == {"a": str(number).encode()}


async def test_inv_4_with_every_hint_lost_a_change_costs_an_interval_and_a_tenth(house):
    lost = LostHints(house.hints)
    async with (
        NotifyingStore(house.store, lost) as store,
        house.reading(hints=lost, interval=1.0) as (_, replica),
    ):
        for number in range(5):
            await house.clock.advance(house.random.random())
            head = await store.commit(B, {"a": str(number).encode()})
            await house.clock.advance(1.1)
            assert replica.held == head


async def test_an_error_never_empties_and_the_next_read_mends(house):
    await house.write(a=1)
    async with house.reading() as (reader, replica):
        house.store.fail = Unavailable("the store is away")
        await house.clock.advance(100)
        assert (reader.state, reader.why) == (ReaderState.DEGRADED, "the store is away")
        assert replica.values == {"a": b"1"}
        house.store.fail = None
        await house.clock.advance(5)
        assert (reader.state, reader.why) == (ReaderState.CURRENT, "")


# ── hints ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_inv_5_doubled_and_forged_hints_only_make_reads_and_at_most_two_per_burst(house):
    head = await house.write(a=1)
    tenfold = DoubledHints(house.hints, 10)
    async with house.reading(interval=3600.0) as (reader, replica):
        await house.clock.advance(10)
        for _ in range(20):
            before = reader.reads
            for _ in range(house.random.randrange(1, 30)):
                await tenfold.publish(B)
                await house.clock.advance(0.001)
            await house.clock.advance(0.2)
            assert 1 <= reader.reads - before <= 2
        assert replica.moves == [head]


async def test_inv_5_an_endless_storm_of_hints_is_a_read_each_50_ms(house):
    class Storm:
        @asynccontextmanager
        async def subscribe(self, bucket):
            async def endless():
                while True:
                    yield

            yield endless()

    await house.write(a=1)
    async with house.reading(hints=Storm()) as (reader, _):
        before = reader.reads
        await house.clock.advance(1)
        assert reader.reads - before <= 21


async def test_a_subscription_that_dies_is_reopened_and_costs_one_interval_at_most(house):
    class Flaky(MemoryHints):
        opened = 0
        dead = False

        @asynccontextmanager
        async def subscribe(self, bucket):
            if self.dead:
                raise ConnectionError("the bus is dead")
            self.opened += 1
            async with super().subscribe(bucket) as hints:
                self.kill = hints  # whose end is what a broken connection looks like
                yield hints

    bus = Flaky()
    await house.write(a=1)
    async with house.reading(hints=bus) as (_, replica):
        bus.dead, bus.kill.closed = True, True
        bus.kill.heard.set()
        await house.clock.advance(3)
        head = await house.write(a=2)
        await bus.publish(B)
        await house.clock.advance(16.5)
        assert replica.held == head
        bus.dead = False
        await house.clock.advance(15)
        assert bus.opened == 2
        head = await house.write(a=3)
        await bus.publish(B)
        await house.clock.advance(0.05)
        assert replica.held == head


async def test_with_a_bus_that_is_dead_from_the_start_the_timer_is_enough(house):
    async with house.reading(hints=DeadHints(), interval=1.0) as (reader, replica):
        head = await house.write(a=1)
        await house.clock.advance(1.1)
        assert replica.held == head
        assert reader.state is ReaderState.CURRENT


async def test_inv_11_it_subscribes_before_the_first_read_and_reads_when_it_is_connected_again(house):
    heard = []

    class Recorded(MemoryHints):
        @asynccontextmanager
        async def subscribe(self, bucket):
            heard.append(("subscribed", house.store.looks))
            async with super().subscribe(bucket) as hints:
                await house.write(a=house.random.random())  # in the worst moment: nobody is told of it
                yield hints
            raise ConnectionError("gone")

    bus = Recorded()
    async with house.reading(hints=bus, interval=3600.0) as (_, replica):
        assert heard == [("subscribed", 0)]
        assert replica.held == await house.engine.version(B)
        for number in range(2, 5):
            (subscription,) = bus._subscriptions[B]
            subscription.closed = True
            subscription.heard.set()
            await house.clock.advance(3)
            assert len(heard) == number
            assert replica.held == await house.engine.version(B)


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def older_copy(house, revision):
    """What a backup that was taken at `revision` would hold, as an engine of its own in the same epoch."""
    changes = await house.engine.changes(B, Version((await house.engine.version(B)).epoch, 0))
    store, entries = MemoryStore(), {}
    assert not isinstance(changes, Gap)
    for change in changes[:revision]:
        for key, value in change.writes.items():
            entries[key] = (value, change.revision)
    cut = [Entry(key, value, at) for key, (value, at) in sorted(entries.items()) if value is not None]
    await store.load(B, Version((await house.engine.version(B)).epoch, revision), cut)
    return store


async def test_inv_6_and_8_a_restored_older_copy_is_refused_and_said_and_heals_by_a_new_epoch(house, caplog):
    for number in range(1, 11):
        head = await house.write(a=number)
    alarms = []
    async with house.reading(on_alarm=alarms.append) as (reader, replica):
        house.store.inner = restored = await older_copy(house, 7)
        await house.clock.advance(100)
        assert (replica.held, replica.values) == (head, {"a": b"10"})
        assert {alarm.kind for alarm in alarms} == {"regressed"}
        assert reader.state is ReaderState.DEGRADED
        assert (
            caplog.messages.count(f"the view: {reader.alarm.sentence}") == 1
        )  # each time it is asked, said once
        assert "history was lost" in reader.why
        await restored.new_epoch()
        await house.clock.advance(16.5)
        assert replica.values == {"a": b"7"}
        assert (reader.state, reader.alarm) == (ReaderState.CURRENT, None)
        assert not replica.went_back()


async def test_inv_6_the_same_revision_with_other_content_is_an_alarm_and_not_an_update(house):
    for number in range(1, 11):
        await house.write(a=number)
    alarms = []
    async with house.reading(on_alarm=alarms.append) as (reader, replica):
        house.store.inner = restored = await older_copy(house, 9)
        await restored.commit(B, {"a": b"another ten"})
        await house.clock.advance(40)
        assert replica.values == {"a": b"10"}
        assert {alarm.kind for alarm in alarms} == {"forked"}
        assert reader.state is ReaderState.STALE
        head = await restored.commit(B, {"b": b"1"})
        await house.clock.advance(20)
        assert (replica.held, replica.values) == (head, {"a": b"another ten", "b": b"1"})


@pytest.mark.parametrize("polled", [True, False])
async def test_inv_13_history_that_was_rewritten_behind_the_back_is_never_mixed_in(house, caplog, polled):
    for number in range(1, 11):
        await house.write(a=number)
    async with house.reading() as (_, replica):
        if polled:
            await house.write(a=10, b=0)
            await house.clock.advance(16.5)
        house.store.inner = restored = await older_copy(house, 5)
        for number in range(12):
            head = await restored.commit(B, {"b": str(number).encode()})
        await house.clock.advance(16.5)
        assert (replica.held, replica.values) == (head, {"a": b"5", "b": b"11"})
        assert "history was rewritten" in caplog.text


async def test_inv_7_a_new_epoch_is_taken_whole_and_said_and_the_retired_one_is_refused(house, caplog):
    await house.write(a=1)
    async with house.reading() as (reader, replica):
        retired = await older_copy(house, 1)
        old = replica.held
        await house.engine.new_epoch()
        await house.clock.advance(16.5)
        assert replica.held > old
        assert f"a new epoch has begun: {replica.held}, after {old}" in caplog.text
        await retired.commit(B, {"a": b"2", "c": b"3"})
        house.store.inner = retired
        await house.clock.advance(16.5)
        assert replica.values == {"a": b"1"}
        assert reader.alarm.kind == "retired"


async def test_inv_9_a_torn_snapshot_is_refused_whole(house):
    class Torn(CountedStore):
        async def snapshot(self, bucket, known=None):
            return msgspec.structs.replace(await super().snapshot(bucket, known), entries=())

    await house.write(a=1)
    whole, house.store = house.store, Torn(house.engine)
    async with house.reading() as (reader, replica):
        assert replica.held is None
        assert reader.state is ReaderState.NOT_READY
        assert "the digest does not match" in reader.why
    house.store = whole
    async with house.reading() as (_, replica):
        assert replica.values == {"a": b"1"}


async def test_inv_10_a_gap_is_rebuilt_from_a_snapshot(house):
    await house.write(a=0)
    states = []
    async with house.reading(on_state=states.append) as (reader, replica):
        house.store.fail = Unavailable("away")
        await house.clock.advance(20)
        for number in range(1, 12):
            head = await house.engine.commit(B, {"a": str(number).encode()})
        moves = len(replica.moves)
        house.store.forgets = True  # its history is shorter than what the reader missed
        house.store.fail = None
        await house.clock.advance(5)
        assert replica.moves[moves:] == [head]
        assert reader.state is ReaderState.CURRENT
        assert states[-2:] == [ReaderState.STALE, ReaderState.CURRENT]


async def test_inv_13_any_interleaving_of_stale_reads_leaves_the_head(house):
    class Reordering(CountedStore):
        """Its answers come late, each after a time of its own, on the house's clock."""

        async def _counted(self, call, read=True):
            answer = await super()._counted(call, read)
            if read:
                late = asyncio.Event()
                house.clock.call_later(house.random.random() * 3, late.set)
                await late.wait()
            return answer

    house.store = Reordering(house.engine)
    async with NotifyingStore(house.store, house.hints) as store, house.reading() as (_, replica):
        for number in range(60):
            await store.commit(B, {f"k{house.random.randrange(5)}": str(number).encode()})
            await house.clock.advance(house.random.random() * 0.5)
        await house.clock.advance(20)
        cut = await house.engine.snapshot(B)
        assert replica.held == cut.version
        assert replica.holds(cut)
        assert not replica.went_back()


# ── applying ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_inv_12_what_could_not_be_applied_is_not_known_and_comes_again(house):
    class ReadOnly(Replica):
        writable = True

        def step(self, version, change):
            if not self.writable:
                raise OSError("read-only file system")
            super().step(version, change)

    await house.write(a=1)
    failures: list[str] = []
    async with house.reading(ReadOnly(), on_failure=failures.append) as (reader, replica):
        known = replica.held
        replica.writable = False
        head = await house.write(a=2)
        await house.clock.advance(16.5)
        assert (replica.held, replica.values) == (known, {"a": b"1"})
        assert reader.why == "what was read could not be applied: read-only file system"
        assert set(failures) == {reader.why}
        assert reader.state is ReaderState.STALE
        replica.writable = True
        await house.clock.advance(6)
        assert (replica.held, reader.state) == (head, ReaderState.CURRENT)


async def test_inv_12_killed_between_applying_and_advancing_it_is_delivered_again(house):
    class Killed(Exception):
        pass

    class HalfDone(Replica):
        """Its files are written, and its process ends before it can say so."""

        def step(self, version, change):
            before = self.held
            super().step(version, change)
            self.held = before
            self.moves.pop()
            raise Killed

    await house.write(a=1)
    async with house.reading() as (_, replica):
        pass
    head = await house.write(a=2)
    async with house.reading(_as(HalfDone(), replica)) as (_, half):
        assert half.values == {"a": b"2"}
    async with house.reading(_as(Replica(), half)) as (reader, again):
        assert (again.held, again.values) == (head, {"a": b"2"})
        assert reader.state is ReaderState.CURRENT


def _as(replica, durable):
    """A new process that starts from what an old one had made durable."""
    replica.entries, replica.held, replica.moves = dict(durable.entries), durable.held, list(durable.moves)
    return replica


async def test_inv_12_closing_lets_what_is_being_applied_come_to_its_end(house):
    applied = []

    class Slow(BucketView):
        async def apply(self, news):
            await asyncio.sleep(0.01)
            await super().apply(news)
            applied.append(news.version)

    await house.write(a=1)
    replica = Replica()
    async with Reconciler(Slow(house.store, B, replica)):
        while not house.store.looks or house.store.busy():
            await asyncio.sleep(0)
        await asyncio.sleep(0.005)
    assert applied == [replica.held] == [await house.engine.version(B)]


async def test_inv_14_a_reader_with_a_cache_is_degraded_and_not_current_until_it_was_answered(house):
    await house.write(a=1)
    async with house.reading() as (_, before):
        pass
    house.store.fail = Unavailable("the server is away")
    states = []
    async with house.reading(_as(Replica(), before), on_state=states.append) as (reader, replica):
        for _ in range(10):
            await house.hints.publish(B)
            await house.clock.advance(1)
        assert states == [ReaderState.SYNCING, ReaderState.DEGRADED]
        assert replica.values == {"a": b"1"}
        house.store.fail = None
        await house.clock.advance(5)
        assert reader.state is ReaderState.CURRENT


async def test_inv_14_a_read_that_hangs_is_given_up_and_empties_nothing(house):
    await house.write(a=1)
    async with house.reading(read_within=2.0) as (reader, replica):
        await house.clock.advance(16.5)
        hang = asyncio.Event()
        house.store.inner = _Hanging(house.engine, hang)
        house.clock.busy = lambda: False
        await house.clock.advance(16.5 + 2)
        assert reader.why == "no answer in time"
        assert replica.values == {"a": b"1"}
        house.store.inner = house.engine
        hang.set()
        await asyncio.sleep(0.01)
        house.clock.busy = house.store.busy
        await house.clock.advance(10)
        assert reader.state is ReaderState.CURRENT


class _Hanging(CountedStore):
    def __init__(self, inner, until):
        super().__init__(inner)
        self.until = until

    async def _counted(self, call, read=True):
        call.close()
        await self.until.wait()
        raise Unavailable("too late")


async def test_inv_16_callbacks_come_once_per_distinct_value_in_order_and_one_that_raises_stops_nothing(
    house,
):
    told = []

    def tell(news):
        told.append(news.version.revision)
        if len(told) % 2:
            raise RuntimeError("a callback that raises")

    async with house.reading(on_change=tell, interval=1.0):
        for number in range(1, 6):
            await house.write(a=number)
            for _ in range(4):
                await house.hints.publish(B)
                await house.clock.advance(0.3)
        await house.engine.new_epoch()
        await house.clock.advance(5)
    assert told == [0, 1, 2, 3, 4, 5, 5]  # the last one is in another epoch


async def test_inv_17_readers_that_start_together_spread_their_polls():
    house = House(MemoryStore(), seed=17)
    await house.write(a=1)
    polls = []

    class Recording(CountedStore):
        async def changes(self, bucket, since):
            polls.append(house.clock.now)
            return await super().changes(bucket, since)

    house.store = Recording(house.engine)
    readers = [house.reader()[0] for _ in range(400)]
    for reader in readers:
        await reader.__aenter__()
    start = house.clock.now
    await house.clock.advance(45)
    for reader in readers:
        await reader.close()
    ticks = [0] * 45
    polls = [poll for poll in polls if poll > start]
    for poll in polls:
        ticks[min(int(poll - start), 44)] += 1
    assert len(polls) > 400 * 2
    assert max(ticks) < 3 * len(polls) / 45


# ── asking for a read ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_read_once_returns_after_a_read_that_began_after_it_and_calls_share_one(house):
    async with house.reading(interval=3600.0) as (reader, replica):
        await house.clock.advance(1)
        head, reads = await house.write(a=1), reader.reads
        calls = [asyncio.create_task(reader.read_once()) for _ in range(50)]
        await house.clock.advance(0.05)
        assert replica.held == head
        assert reader.reads == reads + 1
        await asyncio.gather(*calls)


async def test_read_once_raises_what_the_read_failed_with_and_when_nobody_reads_any_more(house):
    async with house.reading() as (reader, _):
        house.store.fail = Unavailable("away")
        call = asyncio.create_task(reader.read_once())
        await house.clock.advance(0.1)
        with pytest.raises(Unavailable, match="away"):
            await call
        house.clock.busy = lambda: False
        last = asyncio.create_task(reader.read_once())
        await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await last
    with pytest.raises(Unavailable, match="not followed any more"):
        await reader.read_once()


# ── a node's view ────────────────────────────────────────────────────────────────────────────────────────────────────


class Node:
    """A node on a server that holds questions: `served` is (generation, digest), `asked` the holds that were asked for."""

    def __init__(self, clock):
        self.clock = clock
        self.epoch = uuid7()
        self.served = (1, "d1")
        self.known = None
        self.digest = None
        self.written = []
        self.asked = []
        self.changed = asyncio.Event()
        self.down = False

    def serve(self, number, digest):
        self.served = (number, digest)
        self.changed.set()

    def answer(self):
        version = Version(self.epoch, self.served[0])
        return Same(version) if self.served[1] == self.digest else Whole(version, self.served[1], b"")

    async def read(self, ask):
        if self.down:
            return Away("connection refused")
        self.asked.append(ask.hold)
        if ask.hold >= 1 and isinstance(self.answer(), Same):
            self.changed.clear()
            timer = self.clock.call_later(ask.hold, self.changed.set)
            await self.changed.wait()
            timer.cancel()
        return self.answer()

    def same(self, whole):
        return whole.digest == self.digest

    async def apply(self, news):
        if isinstance(news, Whole):
            self.written.append(news.digest)
            self.digest = news.digest
        self.known = news.version


async def test_a_node_is_told_at_once_by_its_held_question_and_writes_only_what_changed():
    clock = VirtualClock()
    node, told = Node(clock), []
    async with Reconciler(
        node, clock=clock, held_reads=True, random=Random(5).random, on_change=lambda news: told.append(news)
    ) as reader:
        await clock.advance(2)
        node.serve(2, "d1")  # another node's files changed
        await clock.advance(40)
        assert node.known == Version(node.epoch, 2)
        assert node.written == ["d1"]
        node.serve(3, "d3")
        await clock.advance(0.06)
        assert (node.written, node.known.revision) == (["d1", "d3"], 3)
        node.serve(2, "d1")
        await clock.advance(0.06)
        assert node.written == ["d1", "d3"]
        assert reader.alarm.kind == "regressed"
        node.epoch = mint_epoch([node.epoch])
        await clock.advance(20)
        assert node.written == ["d1", "d3", "d1"]
        node.down = True
        await clock.advance(200)
        assert reader.state is ReaderState.DEGRADED
        node.down = False
        await clock.advance(5)
        assert reader.state is ReaderState.CURRENT
    assert [news.digest for news in told] == ["d1", "d3", "d1"]
    assert max(node.asked) <= 16.5
