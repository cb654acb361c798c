"""A real fleet walks through its states; `/status` says the same of the fleet and of each node at every step."""

from __future__ import annotations

import asyncio

from cfgsync_adapter import RegistrationConfigSource, RegistrationSnapshot
from cfgsync_core import Acknowledgement, Condition, MemoryStore, NotReady, Ready
from tests.adapter.fleets import Obedient, ReadyAt, node


def states(source: RegistrationConfigSource, *names: str) -> tuple[str, ...]:
    """The state of the fleet, then of these nodes."""
    return (source.fleet(0, "").state, *(source.node(name).state for name in names))


async def answered(source: RegistrationConfigSource, name: str) -> Ready:
    answer = await source.resolve(name)
    assert isinstance(answer, Ready)
    return answer


async def says(source: RegistrationConfigSource, name: str, status: str) -> None:
    answer = await answered(source, name)
    assert answer.generation is not None
    await source.acknowledge(Acknowledgement(name, answer.generation, answer.payload.digest, status))  # type: ignore[arg-type]


async def test_a_fleet_converges() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        assert states(source, "a") == ("empty", "not_registered")
        await source.register(node("a"))
        assert source.fleet(0, "").pending
        await source.resolve("a")
        assert (states(source, "a"), source.fleet(0, "").pending) == (("not_ready", "not_ready"), False)
        await source.register(node("b"))
        await answered(source, "a")
        assert states(source, "a", "b") == ("converging", "served", "ready")
        await says(source, "a", "failed")
        assert states(source, "a", "b") == ("converging", "not_applied", "ready")
        await says(source, "a", "applied")
        await says(source, "b", "applied")
        assert states(source, "a", "b") == ("converged", "applied", "applied")
        await source.evict("a")
        await source.evict("b")
        assert states(source, "a") == ("empty", "not_registered")


async def test_a_failed_run_leaves_the_nodes_of_the_generation_in_their_state() -> None:
    async with RegistrationConfigSource(Obedient()) as source:
        await source.register(node("a"))
        await says(source, "a", "applied")
        await source.register(node("guest", skip=True))
        await source.resolve("guest")
        assert states(source, "a", "guest") == ("converged", "applied", "no_files")
        await source.register(node("b", fail="no address left"))
        while source.fleet(0, "").pending:
            await asyncio.sleep(0)
        assert states(source, "a", "b") == ("failed", "applied", "failed")


async def test_the_state_of_a_restarted_server_is_that_of_its_store() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        await source.register(node("a"))
        await says(source, "a", "applied")
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        assert states(source, "a") == ("converged", "applied")


async def test_the_note_of_a_condition_is_in_the_reason_and_a_reason_that_repeats_it_is_not() -> None:
    class Late:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> NotReady:
            condition = Condition("quorum", 1, 2, ("b",), "the deadline of 60 s is over")
            return NotReady("1 of 2 nodes, missing b; the deadline of 60 s is over", (condition,))

    async with RegistrationConfigSource(Late()) as source:
        await source.register(node("a"))
        await source.resolve("a")
        said = source.fleet(0, "")
        assert said.reason == "quorum 1 of 2, missing b (never seen); the deadline of 60 s is over"
        assert said.conditions[0].note == "the deadline of 60 s is over"
