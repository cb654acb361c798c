"""Whatever happens to a store, its hints and its readers: at quiescence every reader holds the head, and no reader ever
went back within one epoch or to an older one.

A search over programs of writes, hints (lost, doubled, shuffled, forged), crashes (between commit and publish, between
applying and advancing, of a reader's process), restores of an older copy, and readers. Virtual time, one event loop.
`CFGSYNC_CHAOS=long` searches further, from a seed of its own.
"""

from __future__ import annotations

import asyncio
import os
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cfgsync_core import MemoryHints, MemoryStore, Unavailable
from cfgsync_core.follow.bucket_view import BucketView
from cfgsync_core.follow.reconciler import Reconciler
from cfgsync_core.follow.timing import ReaderState
from cfgsync_core.store.notifying import NotifyingStore
from tests.replicas import CountedStore, Replica
from tests.virtual_time import VirtualClock

B = "registrations"
INTERVAL = 15.0
LONG = os.environ.get("CFGSYNC_CHAOS") == "long"

keys = st.sampled_from(["node-1", "node-2", "node-3", "node-4"])
values = st.one_of(st.none(), st.integers(0, 5).map(lambda number: str(number).encode()))
readers = st.integers(0, 2)


class Bus(MemoryHints):
    """Keeps what was published until a rule says what becomes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[str] = []
        self.is_dead = False

    async def publish(self, bucket: str) -> None:
        if self.is_dead:
            raise ConnectionError("the bus is dead")
        self.pending.append(bucket)

    async def deliver(self, bucket: str) -> None:
        await MemoryHints.publish(self, bucket)

    def subscribe(self, bucket: str):
        if self.is_dead:
            raise ConnectionError("the bus is dead")
        return super().subscribe(bucket)

    def die(self) -> None:
        self.is_dead = True
        for subscription in [each for held in self._subscriptions.values() for each in held]:
            subscription.closed = True
            subscription.heard.set()


class Mortal(Replica):
    """A replica whose next application may be made, and its process end before it could say so."""

    dies = False

    def take(self, snapshot) -> None:
        self._apply(super().take, snapshot)

    def step(self, version, change) -> None:
        self._apply(super().step, version, change)

    def _apply(self, apply, *words) -> None:
        held, moves = self.held, len(self.moves)
        apply(*words)
        if self.dies:
            self.held = held
            del self.moves[moves:]
            raise RuntimeError("killed between applying and advancing")

    def reborn(self) -> Mortal:
        """What a new process finds that an old one left."""
        child = Mortal()
        child.entries, child.held, child.moves = dict(self.entries), self.held, list(self.moves)
        return child


class Readers(RuleBasedStateMachine):
    """Three readers of one bucket that is written, whispered about, broken and restored."""

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        print("seed", seed)
        self.loop = asyncio.new_event_loop()
        self.random = Random(seed)
        self.engine = MemoryStore()
        self.store = CountedStore(self.engine)
        self.bus = Bus()
        self.clock = VirtualClock()
        self.backup = None
        self.is_regressed = False
        self.replicas = [Mortal() for _ in range(3)]
        self.tasks: list[Reconciler | None] = [None] * 3
        for number in range(3):
            self.run(self.open(number))

    def run(self, work) -> None:
        self.loop.run_until_complete(work)

    async def open(self, number: int) -> None:
        view = BucketView(self.store, B, self.replicas[number])
        reader = Reconciler(
            view,
            subscribe=lambda: self.bus.subscribe(B),
            interval=INTERVAL,
            clock=self.clock,
            random=self.random.random,
        )
        self.tasks[number] = reader
        await reader.__aenter__()
        await self.clock.rest()

    async def kill(self, number: int) -> None:
        reader = self.tasks[number]
        assert reader is not None
        await reader.close()
        self.replicas[number] = self.replicas[number].reborn()
        await self.open(number)

    # ── writers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(writes=st.dictionaries(keys, values, min_size=1, max_size=3))
    def write(self, writes) -> None:
        async def work() -> None:
            async with NotifyingStore(self.engine, self.bus) as store:
                await store.commit(B, writes)
            await self.clock.rest()

        self.run(work())

    @rule(writes=st.dictionaries(keys, values, min_size=1, max_size=3))
    def write_and_crash_before_the_hint(self, writes) -> None:
        self.run(self.engine.commit(B, writes))

    @rule(count=st.integers(2, 6), key=keys)
    def write_in_a_burst(self, count, key) -> None:
        async def work() -> None:
            async with NotifyingStore(self.engine, self.bus) as store:
                for _ in range(count):
                    await store.commit(B, {key: str(self.random.random()).encode()})

        self.run(work())

    # ── hints ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.bus.pending)
    @rule(times=st.integers(0, 3))
    def a_hint_is_lost_or_delivered_or_doubled_in_any_order(self, times) -> None:
        async def work() -> None:
            bucket = self.bus.pending.pop(self.random.randrange(len(self.bus.pending)))
            for _ in range(times):
                await self.bus.deliver(bucket)
            await self.clock.rest()

        self.run(work())

    @rule(times=st.integers(1, 5))
    def hints_are_forged(self, times) -> None:
        async def work() -> None:
            for _ in range(times):
                await self.bus.deliver(B)
            await self.clock.rest()

        self.run(work())

    @rule(dead=st.booleans())
    def the_bus_dies_or_comes_back(self, dead) -> None:
        if dead:
            self.bus.die()
        self.bus.is_dead = dead
        self.run(self.clock.rest())

    # ── crashes and restores ─────────────────────────────────────────────────────────────────────────────────────────

    @rule(number=readers)
    def a_reader_is_killed(self, number) -> None:
        self.run(self.kill(number))

    @rule(number=readers)
    def a_reader_is_killed_between_applying_and_advancing(self, number) -> None:
        async def work() -> None:
            self.replicas[number].dies = True
            await self.clock.advance(self.random.random() * INTERVAL)
            await self.kill(number)

        self.run(work())

    @rule(is_away=st.booleans())
    def the_store_goes_away_or_comes_back(self, is_away) -> None:
        self.store.fail = Unavailable("away") if is_away else None

    @rule()
    def the_store_is_backed_up(self) -> None:
        async def work() -> None:
            self.backup = await self.engine.snapshot(B)

        self.run(work())

    @precondition(lambda self: self.backup is not None and self.backup.version.epoch)
    @rule(by_the_book=st.booleans())
    def the_backup_is_restored(self, by_the_book) -> None:
        """By the book: with a new epoch, after the one that was lost."""

        async def work() -> None:
            lost, self.engine = self.engine, MemoryStore()
            await self.engine.load(B, self.backup.version, self.backup.entries)
            self.store.inner = self.engine
            self.is_regressed = True
            if by_the_book:
                await self.heal((await lost.version(B)).epoch)

        self.run(work())

    @rule()
    def a_new_epoch_begins(self) -> None:
        self.run(self.heal())

    async def heal(self, *also: str) -> None:
        epochs = [replica.held.epoch for replica in self.replicas if replica.held is not None]
        await self.engine.new_epoch(after=max([*epochs, *also], default="") or None)
        self.is_regressed = False

    # ── time, and what must hold ─────────────────────────────────────────────────────────────────────────────────────

    @rule(seconds=st.sampled_from([0.01, 0.06, 1.0, 7.0, INTERVAL * 1.1]))
    def time_passes(self, seconds) -> None:
        self.run(self.clock.advance(seconds))

    @invariant()
    def nobody_went_back(self) -> None:
        assert not any(replica.went_back() for replica in self.replicas)

    @rule()
    def it_becomes_quiet(self) -> None:
        async def work() -> None:
            self.store.fail = None
            await self.clock.advance(INTERVAL * 1.1 + 5.0)  # an interval, and the longest back-off before it
            if self.is_regressed:  # who is ahead does not follow, and says so; the operator's word heals it
                head = await self.engine.snapshot(B)
                for reader, replica in zip(self.tasks, self.replicas, strict=True):
                    assert (reader.state is ReaderState.CURRENT) == (reader.alarm is None)
                    if reader.state is ReaderState.CURRENT:
                        assert replica.held == head.version
                        assert replica.holds(head)
                    else:
                        assert replica.held >= head.version
                await self.heal()
                await self.clock.advance(INTERVAL * 1.1 + 5.0)
            head = await self.engine.snapshot(B)
            for reader, replica in zip(self.tasks, self.replicas, strict=True):
                assert replica.held == head.version
                assert replica.holds(head)
                assert reader.state is ReaderState.CURRENT

        self.run(work())
        self.nobody_went_back()

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.it_becomes_quiet()
        finally:
            for reader in self.tasks:
                if reader is not None:
                    self.run(reader.close())
            self.loop.close()


TestReadersConverge = Readers.TestCase
TestReadersConverge.settings = settings(
    max_examples=2000 if LONG else 250,
    stateful_step_count=40,
    deadline=None,
    derandomize=not LONG,  # the same programs at each run of `make test`
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
