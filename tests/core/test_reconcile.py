"""The one loop: each invariant of store.md that concerns a reader, by its number, over the engines, in virtual time."""

from contextlib import asynccontextmanager
from random import Random

import pytest

from cfgsync_core import BucketView, MemoryHints, MemoryStore, ReaderState, Reconciler, Unavailable, hinted
from cfgsync_runtime.backends import open_store
from cfgsync_runtime.testing.faults import LostHints
from tests.virtual_time import VirtualClock

from .replicas import CountedStore, Replica

B = "registrations"


class House:
    """One store, its hints, and any number of readers of one bucket, on one clock."""

    def __init__(self, engine, seed=1):
        print("seed", seed)
        self.engine = engine
        self.store = CountedStore(engine)
        self.hints = MemoryHints()
        self.clock = VirtualClock(self.store.busy)
        self.random = Random(seed)
        self.random.seed(seed)

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
            B, {key: value and str(value).encode() for key, value in values.items()}
        )


@pytest.fixture(params=["memory", "sqlite"])
async def house(request, tmp_path):
    if request.param == "memory":
        yield House(MemoryStore())
    else:
        async with open_store(f"sqlite:{tmp_path}/store.db") as engine:
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
    async with hinted(house.store, house.hints) as store, house.reading() as (_, replica):
        for number in range(5):
            await store.commit(B, {"a": str(number).encode()})
            await house.clock.advance(0.05)
            assert replica.values == {"a": str(number).encode()}


async def test_inv_4_with_every_hint_lost_a_change_costs_an_interval_and_a_tenth(house):
    lost = LostHints(house.hints)
    async with hinted(house.store, lost) as store, house.reading(hints=lost, interval=1.0) as (_, replica):
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
