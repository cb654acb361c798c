"""A claim by hand makes one new generation of everybody; the last claim's program decides."""

from __future__ import annotations

import pytest

from cfgsync_adapter import NotReady, RegistrationConfigSource
from cfgsync_adapter.generations.generation import Generation
from cfgsync_core import MemoryStore, Missing, Ready, Unavailable
from tests.adapter.fleets import RandomKeys, ReadyAt, node
from tests.faults import BrokenStore


async def answered(source: RegistrationConfigSource, name: str) -> Ready:
    answer = await source.resolve(name)
    assert isinstance(answer, Ready)
    return answer


async def test_a_renewal_asks_again_and_numbers_only_what_is_new() -> None:
    for materializer, numbers in ((RandomKeys(), (1, 2)), (ReadyAt(1), (1, 1))):
        async with RegistrationConfigSource(materializer) as source:
            await source.register(node("a"))
            before = await answered(source, "a")
            said = await source.parts.operator.renew()
            assert said.before == before.generation
            assert said.verdict is not None
            assert isinstance(said.verdict.outcome, Generation)
            after = await answered(source, "a")
            assert after.generation == said.verdict.outcome.text
            assert tuple(int(str(a.generation)[-1]) for a in (before, after)) == numbers
            assert source.generation is not None
            assert source.generation.source.claim == said.claim


async def test_a_frozen_source_makes_one_generation_of_everybody_when_it_is_renewed() -> None:
    async with RegistrationConfigSource(ReadyAt(1), late="freeze") as source:
        await source.register(node("a"))
        await answered(source, "a")
        await source.register(node("late"))
        assert isinstance(await source.resolve("late"), Missing)
        await source.parts.operator.renew()
        assert (await answered(source, "late")).generation == (await answered(source, "a")).generation
        await source.register(node("later"))
        assert isinstance(await source.resolve("later"), Missing)


async def test_a_renewal_tells_what_the_run_said() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        assert (
            await source.parts.operator.renew()
        ).verdict is None  # nobody has registered: there is no run to wait for
        await source.register(node("a"))
        said = await source.parts.operator.renew()
        assert said.verdict is not None
        assert isinstance(said.verdict.outcome, NotReady)
        assert said.before is None


async def test_a_renewal_that_cannot_be_kept_is_none() -> None:
    store = MemoryStore()
    broken = BrokenStore(store, after=10_000)
    async with RegistrationConfigSource(RandomKeys(), store=broken) as source:
        await source.register(node("a"))
        before = await answered(source, "a")
        broken.break_after(0)
        with pytest.raises(Unavailable):
            await source.parts.operator.renew()
        broken.mend()
        assert (await answered(source, "a")).generation == before.generation
        assert source.runs == 1


async def test_a_superseded_server_that_is_renewed_by_hand_decides_again() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1, "old"), store=store, revision="1") as old:
        await old.register(node("a"))
        await answered(old, "a")
        async with RegistrationConfigSource(ReadyAt(1, "new"), store=store, revision="2") as new:
            await new.settled(5)
            said = await old.parts.operator.renew()
            assert said.verdict is not None
            assert isinstance(said.verdict.outcome, Generation)
            assert (await answered(old, "a")).payload.files[0].content == "a old"
            await new.register(node("b"))
            again = await new.parts.operator.renew()
            assert again.claim > said.claim


async def test_two_servers_of_one_revision_share_a_renewal() -> None:
    store = MemoryStore()
    async with (
        RegistrationConfigSource(RandomKeys(), store=store, revision="1") as one,
        RegistrationConfigSource(RandomKeys(), store=store, revision="1") as other,
    ):
        await one.register(node("a"))
        await answered(one, "a")
        await one.parts.operator.renew()
        await other.register(node("b"))
        assert (await answered(other, "b")).generation is not None
        assert other.generation is not None
        assert other.generation.source.claim == 2
