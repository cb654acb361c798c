"""Two servers on one store: nodes that registered at one are answered at the other, and one snapshot makes one generation."""

import asyncio
from contextlib import asynccontextmanager
from random import Random

import msgspec
import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializedArtifacts,
    NotReady,
    RegistrationConfigSource,
)
from cfgsync_core import MaterializationFailed, MemoryHints, MemoryStore, Missing, Ready
from cfgsync_core.store.notifying import NotifyingStore
from cfgsync_runtime.testing.contracts.dead_hints import DeadHints
from tests.adapter.fleets import Obedient, RandomKeys, ReadyAt, node
from tests.faults import LostHints
from tests.routes import call_node, routes_of

SOON = 0.2


class Echo:
    """Each node is given its own metadata."""

    def materialize_snapshot(self, registrations):
        return MaterializedArtifacts.from_nodes(
            {r.identifier: ArtifactSet([ArtifactFile("/echo", repr(r.metadata))]) for r in registrations}
        )


class Recorded(MemoryStore):
    """Keeps every head of the generations that was ever committed."""

    def __init__(self):
        super().__init__()
        self.heads = []

    async def commit(self, bucket, writes, expected=None):
        version = await super().commit(bucket, writes, expected)
        if bucket == "generations" and "current" in writes:
            self.heads.append(msgspec.json.decode(writes["current"]))
        return version


class Site:
    """One store and one bus, and as many servers as are started."""

    def __init__(self, bus=None):
        self.engine = Recorded()
        self.bus = MemoryHints() if bus is None else bus

    @asynccontextmanager
    async def server(self, materializer, *, store=None, **words):
        async with NotifyingStore(self.engine if store is None else store, self.bus) as store:
            source = RegistrationConfigSource(
                materializer, store=store, hints=self.bus, interval=SOON, **words
            )
            async with source:
                yield source


@pytest.fixture(params=["delivered", "lost", "dead"])
def site(request):
    match request.param:
        case "delivered":
            return Site()
        case "lost":
            return Site(LostHints(MemoryHints()))
        case _:
            return Site(DeadHints())


def peers(answer):
    assert isinstance(answer, Ready), answer
    return answer.payload.local


async def test_a_node_that_registered_at_one_server_is_answered_at_the_other(site):
    async with site.server(ReadyAt(2)) as a, site.server(ReadyAt(2)) as b:
        await a.register(node("node-1"))
        await b.register(node("node-2"))
        for name in ("node-1", "node-2"):
            here, there = await asyncio.gather(a.resolve(name, wait=5), b.resolve(name, wait=5))
            assert peers(here) == peers(there)
            assert here.generation == there.generation


async def test_a_node_that_is_unknown_here_is_looked_up_in_the_store_once(site):
    async with site.server(ReadyAt(1)) as a, site.server(ReadyAt(1)) as b:
        stranger = await b.resolve("node-1")
        assert isinstance(stranger, NotReady)
        assert not stranger.registered
        await a.register(node("node-1"))
        assert isinstance(await b.resolve("node-1"), Ready)  # at once, however late the hint


async def test_a_question_is_never_answered_from_before_what_its_node_was_told(site):
    async with site.server(Echo()) as a, site.server(Echo()) as b:
        for number in range(5):
            version = await a.register(node("node-1", number=number))
            at_b = await b.resolve("node-1", wait=5, at_least=version)
            assert str(number).encode() in peers(at_b)
            assert peers(await a.resolve("node-1", wait=5)) == peers(at_b)


@pytest.mark.parametrize(
    "version", ["rubbish", "", "00000000.5", "..", "ffffffff-ffff-7fff-bfff-ffffffffffff.9"]
)
async def test_a_version_that_nobody_ever_told_a_node_asks_for_one_read_and_no_more(version):
    site = Site()
    async with site.server(ReadyAt(1)) as a:
        await a.register(node("node-1"))
        routes = routes_of(a)
        reply = await asyncio.wait_for(call_node(routes, "node-1", {"Cfgsync-Version": version}), 2)
        assert reply.status == 200


async def test_a_held_question_is_answered_when_another_server_makes_the_generation(site):
    async with site.server(ReadyAt(2)) as a, site.server(ReadyAt(2)) as b:
        await b.register(node("node-1"))
        held = asyncio.create_task(b.resolve("node-1", wait=20))
        await asyncio.sleep(0.05)
        assert not held.done()
        await a.register(node("node-2"))
        assert isinstance(await asyncio.wait_for(held, 3), Ready)


async def test_a_held_304_is_answered_when_another_server_makes_the_generation(site):
    async with site.server(ReadyAt(1)) as a, site.server(ReadyAt(1)) as b:
        await a.register(node("node-1"))
        first = await b.resolve("node-1", wait=5)
        held = asyncio.create_task(b.resolve("node-1", known=first.payload.digest, wait=20))
        await asyncio.sleep(0.05)
        await a.register(node("node-2"))
        then = await asyncio.wait_for(held, 3)
        assert b"node-2" in peers(then)


async def test_one_snapshot_makes_one_generation_however_many_servers_run(site):
    """Each run draws other keys, so that two generations of one source could not be equal."""
    seed = 7
    print("seed", seed)
    random = Random(seed)
    async with (
        site.server(RandomKeys()) as a,
        site.server(RandomKeys()) as b,
        site.server(RandomKeys()) as c,
    ):
        servers = [a, b, c]
        for number in range(12):
            await random.choice(servers).register(node(f"node-{number}"))
            await asyncio.sleep(random.random() * 0.1)
        answers = await asyncio.gather(*(server.resolve("node-11", wait=5) for server in servers))
        await asyncio.sleep(SOON * 1.2)
        answers = await asyncio.gather(*(server.resolve("node-11", wait=5) for server in servers))
        assert len({answer.generation for answer in answers}) == 1
        assert len({answer.payload.local for answer in answers}) == 1
        sources = [tuple(head["source"]["registrations"]) for head in site.engine.heads]
        assert sources == sorted(set(sources))
        assert [head["number"] for head in site.engine.heads] == list(range(1, len(sources) + 1))


async def test_inv_3_a_server_that_was_killed_between_commit_and_whisper_has_registered_its_node(site):
    """What it committed is all there is of it."""
    async with site.server(ReadyAt(2)) as b:
        await b.register(node("node-2"))
        held = asyncio.create_task(b.resolve("node-2", wait=20))
        killed = RegistrationConfigSource(ReadyAt(99), store=site.engine)  # never whispers
        await killed.register(node("node-1"))
        await killed.close()
        assert b"node-1" in peers(await asyncio.wait_for(held, 3))


async def test_a_server_that_was_killed_between_publishing_and_whispering_made_the_generation(site):
    async with site.server(RandomKeys()) as b:
        killed = RegistrationConfigSource(RandomKeys(), store=site.engine)
        await killed.register(node("node-1"))
        made = await killed.resolve("node-1", wait=5)
        await killed.close()
        adopted = await b.resolve("node-1", wait=5)
        assert (adopted.generation, adopted.payload.local) == (made.generation, made.payload.local)


async def test_another_servers_claim_stops_this_one_from_publishing(site):
    async with site.server(ReadyAt(1, "old"), revision="1") as a:
        await a.register(node("node-1"))
        await a.resolve("node-1", wait=5)
        async with site.server(ReadyAt(1, "new"), revision="2") as b:
            await b.settled(2)
            assert b"new" in peers(await b.resolve("node-1", wait=5))
            await asyncio.sleep(SOON * 1.5)
            assert b"new" in peers(await a.resolve("node-1", wait=5))
            await a.register(node("node-2"))
            assert b"new" in peers(await a.resolve("node-2", wait=5))
            assert "another server has claimed" in a.fleet(10, "").reason


async def test_a_run_that_fails_here_does_not_hide_what_another_server_made(site):
    class Failing:
        def materialize_snapshot(self, registrations):
            raise RuntimeError("no disk here")

    async with site.server(Failing()) as a:
        await a.register(node("node-1"))
        with pytest.raises(MaterializationFailed, match=r"RuntimeError in test_two_servers\.py"):
            await a.resolve("node-1", wait=0)
        async with site.server(ReadyAt(1)) as b:
            assert isinstance(await b.resolve("node-1", wait=5), Ready)
            await asyncio.sleep(SOON * 1.5)
            assert isinstance(await a.resolve("node-1"), Ready)
            assert a.fleet(10, "").reason == ""


async def test_inv_7_a_new_epoch_under_a_running_server_is_taken_whole_and_said(site, caplog):
    async with site.server(ReadyAt(1)) as a, site.server(Obedient()) as b:
        await a.register(node("node-1"))
        before = await b.resolve("node-1", wait=5)
        versions = await site.engine.new_epoch()
        await asyncio.sleep(SOON * 2.5)
        after = await a.resolve("node-1", wait=5), await b.resolve("node-1", wait=5)
        assert {one.generation.split(".")[0] for one in after} == {versions["generations"].epoch}
        assert after[0].generation > before.generation
        assert "bucket 'registrations': a new epoch has begun" in caplog.text
        assert "bucket 'generations': a new epoch has begun" in caplog.text


async def test_a_new_epoch_that_loses_nothing_makes_no_new_generation_even_of_random_keys(site):
    async with site.server(RandomKeys()) as a, site.server(RandomKeys()) as b:
        for name in ("node-1", "node-2"):
            await a.register(node(name))
        before = await b.resolve("node-2", wait=5)
        made, number = len(site.engine.heads), before.generation.rpartition(".")[2]
        await site.engine.new_epoch()
        await a.register(node("node-1"))  # unchanged, and read again
        async with asyncio.timeout(10):
            while (await b.resolve("node-2", wait=5)).generation == before.generation or made == len(
                site.engine.heads
            ):
                await asyncio.sleep(0.02)
        after = await asyncio.gather(*(one.resolve("node-2", wait=5) for one in (a, b)))
        assert {peers(one) for one in after} == {peers(before)}
        assert [str(head["number"]) for head in site.engine.heads[made:]] == [number], "one server says so"
        await b.register(node("node-3"))
        assert peers(await a.resolve("node-3", wait=5)) != peers(before)


async def test_a_frozen_fleet_keeps_its_generation_through_a_new_epoch():
    site = Site()
    async with site.server(RandomKeys(), late="freeze") as a:
        await a.register(node("node-1"))
        before = await a.resolve("node-1", wait=5)
        await a.register(node("late"))
        assert isinstance(await a.resolve("late", wait=0), Missing)
        await site.engine.new_epoch()
        async with asyncio.timeout(10):
            while (after := await a.resolve("node-1", wait=0)).generation == before.generation:
                await asyncio.sleep(0.02)
        assert peers(after) == peers(before)
        assert isinstance(await a.resolve("late", wait=0), Missing)
    async with site.server(RandomKeys(), late="freeze") as a:
        await site.engine.new_epoch()
    async with site.server(RandomKeys(), late="freeze") as a:
        assert peers(await a.resolve("node-1", wait=5)) == peers(before)


async def test_a_registration_is_put_back_at_another_server_of_a_frozen_fleet():
    site = Site()
    async with site.server(ReadyAt(1), late="freeze") as a, site.server(ReadyAt(1), late="freeze") as b:
        await a.register(node("node-1", port=1))
        before = await a.resolve("node-1", wait=5)
        await a.register(node("node-1", port=2))
        assert isinstance(await a.resolve("node-1"), Missing)
        async with asyncio.timeout(10):
            while "other metadata" not in b.node("node-1").reason:
                await asyncio.sleep(0.02)
        await b.register(node("node-1", port=1))
        assert await b.resolve("node-1", wait=5) == before
        async with asyncio.timeout(10):
            while await a.resolve("node-1") != before:
                await asyncio.sleep(0.02)


async def test_who_leaves_at_one_server_is_told_at_the_other():
    site = Site()
    async with site.server(ReadyAt(5)) as a, site.server(ReadyAt(5)) as b:
        await a.register(node("node-1"))
        await b.resolve("node-1")
        held = asyncio.create_task(b.resolve("node-1", wait=20))
        await asyncio.sleep(0.05)
        await site.engine.commit("registrations", {"node-1": None})  # as an eviction elsewhere does
        answer = await asyncio.wait_for(held, 3)
        assert isinstance(answer, NotReady)
        assert not answer.registered


async def test_a_server_that_shares_nothing_follows_nobody():
    async with RegistrationConfigSource(ReadyAt(1)) as alone:
        assert not [task for task in asyncio.all_tasks() if "reconcile" in task.get_name()]
        await alone.register(node("node-1"))
        reply = await call_node(routes_of(alone), "node-1", {"Cfgsync-Version": "rubbish"})
        assert reply.status == 200
        assert not isinstance(await alone.resolve("node-1"), Missing)


async def test_a_replacement_that_was_given_at_one_server_is_served_by_both(site):
    async with site.server(ReadyAt(1)) as a, site.server(ReadyAt(1)) as b:
        await a.register(node("node-1"))
        first = await b.resolve("node-1", wait=5)
        held = asyncio.create_task(b.resolve("node-1", known=first.payload.digest, wait=20))
        await asyncio.sleep(0.05)
        await a.parts.operator.replace("node-1", ArtifactSet([ArtifactFile("/by-hand", "by hand")]))
        assert b"by hand" in peers(await asyncio.wait_for(held, 3))
        assert b"by hand" in peers(await a.resolve("node-1", known=first.payload.digest, wait=5))
