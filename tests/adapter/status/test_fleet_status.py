"""A real fleet walks through its states; `/status` says the same of the fleet and of each node at every step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from cfgsync_adapter import (
    CachedSnapshotMaterializer,
    Quorum,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_core import Acknowledgement, Condition, MemoryStore, NotReady, Ready
from cfgsync_core.wire.status import NodeDrift
from cfgsync_runtime.testing.observed import ObservedMaterializer
from tests.adapter.fleets import Obedient, ReadyAt, node
from tests.adapter.nodes.test_membership import Clock


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


async def test_the_counts_are_those_of_the_states_of_the_nodes_at_every_step() -> None:
    async with RegistrationConfigSource(Obedient()) as source:

        def counts() -> dict[str, int]:
            fleet = source.fleet(0, "")
            found = Counter(one.state for one in source.nodes(1_000, ""))
            assert {state: count for state, count in fleet.counts.items() if count} == found
            assert fleet.applied == found["applied"]
            return dict(found)

        await source.register(node("a"))
        assert counts() == {"not_ready": 1}
        await source.resolve("a")
        assert counts() == {"served": 1}
        await says(source, "a", "failed")
        assert counts() == {"not_applied": 1}
        await says(source, "a", "applied")
        await source.register(node("guest", skip=True))
        await source.resolve("guest")
        assert counts() == {"applied": 1, "no_files": 1}
        await source.register(node("a", ip="10.0.0.9"))  # applied, but not what it registered with
        assert counts() == {"not_ready": 1, "no_files": 1}
        await source.register(node("b", fail="no address left"))
        while source.fleet(0, "").pending:
            await asyncio.sleep(0)
        assert counts() == {"failed": 2, "no_files": 1}


async def test_a_frozen_fleet_counts_a_node_that_came_later_as_one_without_files() -> None:
    async with RegistrationConfigSource(ReadyAt(1), late="freeze") as source:
        await source.register(node("a"))
        await says(source, "a", "applied")
        await source.register(node("late"))
        fleet = source.fleet(0, "")
        assert (fleet.counts["applied"], fleet.counts["no_files"], fleet.state) == (1, 1, "not_ready")
        assert source.node("late").state == "no_files"


@pytest.mark.parametrize("wrap", [lambda one: one, CachedSnapshotMaterializer, ObservedMaterializer])
async def test_an_empty_fleet_names_the_nodes_that_its_quorum_expects(wrap: Callable[..., Any]) -> None:
    names = [f"node-{at:02}" for at in range(1, 13)]
    async with RegistrationConfigSource(wrap(Quorum(ReadyAt(1), expected=names))) as source:
        empty = source.fleet(0, "")
        assert [one.identifier for one in empty.missing] == names
        assert (empty.state, empty.counts["not_registered"]) == ("empty", 12)
        assert empty.reason.startswith(
            "no node has registered; quorum 0 of 12, missing node-01 (never seen), node-02"
        )
        await source.register(node("node-01"))
        await source.resolve("node-01")
        assert len(source.fleet(0, "").missing) == 11
        await source.evict("node-01")
        again = source.fleet(0, "")
        assert (len(again.missing), again.reason.partition(";")[0]) == (12, "no node is registered any more")


async def test_an_attribute_of_an_application_that_only_has_the_name_is_no_list_of_nodes() -> None:
    class Mine(ReadyAt):
        expected_nodes = 12

    async with RegistrationConfigSource(Mine(1)) as source:
        assert source.fleet(0, "").reason == "no node has registered"


async def test_a_reader_of_the_page_is_told_when_a_node_was_served() -> None:
    async with RegistrationConfigSource(ReadyAt(1)) as source:
        await source.register(node("a"))
        await source.resolve("a", wait=5)
        hints: list[None] = []
        source.subscribe(lambda: hints.append(None))
        await source.resolve("a")
        assert not hints, "it was served this generation before"
        await source.register(node("b"))
        await source.resolve("b", wait=5)
        before = len(hints)
        await source.resolve("a")
        assert len(hints) == before + 1


async def test_files_changed_on_a_nodes_disk_are_named_in_the_fleets_status_and_change_no_state() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        for name in ("a", "b"):
            await source.register(node(name))
        for name in ("a", "b"):
            answer = await answered(source, name)
            assert answer.generation is not None
            drifted = ("/x", "/y") if name == "b" else ()
            await source.acknowledge(
                Acknowledgement(name, answer.generation, answer.payload.digest, "applied", drifted=drifted)
            )
        fleet = source.fleet(10, "")
        assert (fleet.drifted, fleet.drifted_count) == ((NodeDrift("b", ("/x", "/y")),), 1)
        assert states(source, "a", "b") == ("converged", "applied", "applied")
        await says(source, "b", "applied")
        assert not source.fleet(0, "").drifted_count
        assert not source.fleet(0, "").drifted


async def test_a_promise_that_is_overdue_is_said_in_the_nodes_status() -> None:
    clock = Clock()
    async with RegistrationConfigSource(ReadyAt(1), seen=clock.seen()) as source:
        await source.register(node("a"))
        await source.promise("a", 20)
        await answered(source, "a")
        clock.now += 20
        assert not source.node("a").overdue
        clock.now += 20
        shown = source.node("a")
        assert (shown.overdue, shown.state) == (40, "served")
        assert shown.reason.endswith("; last seen 40 s ago, promised 20 s")
        await source.promise("a", None)
        assert not source.node("a").overdue, "it promised nothing"
