"""A frozen generation: a registration that is put back gets its files again, and what waits for a rebuild has names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from cfgsync_adapter import (
    DocumentsSnapshot,
    MaterializationResult,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_adapter.application import DocumentsFeed
from cfgsync_core import Acknowledgement, MemoryStore, Missing, NotReady, Ready, Version
from tests.adapter.fleets import RandomKeys, ReadyAt, node, one_file_each


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def files(source: RegistrationConfigSource, name: str) -> Ready:
    answer = await source.resolve(name, wait=5)
    assert isinstance(answer, Ready), answer
    return answer


async def why(source: RegistrationConfigSource, name: str) -> str:
    answer = await source.resolve(name)
    assert isinstance(answer, Missing | NotReady), answer
    return answer.reason


async def booted(source: RegistrationConfigSource) -> dict[str, Ready]:
    """Three nodes, each with its files, and each has said so."""
    for name in "abc":
        await source.register(node(name, port=1))
    found = {name: await files(source, name) for name in "abc"}
    for name, one in found.items():
        await source.acknowledge(Acknowledgement(name, str(one.generation), one.payload.digest, "applied"))
    return found


async def test_a_registration_that_is_put_back_gets_the_frozen_files_again() -> None:
    async with RegistrationConfigSource(ReadyAt(3), late="freeze") as source:
        good = await booted(source)
        assert source.fleet(0, "").converged
        for wrong in (node("b", port=2), node("b", ip="10.0.0.9", port=1), node("b")):
            await source.register(wrong)
            assert isinstance(await source.resolve("b"), Missing)
            await source.register(node("b", port=1))
            assert await source.resolve("b") == good["b"]
            assert source.node("b").state == "applied"
        fleet = source.fleet(0, "")
        assert (fleet.state, fleet.reason, fleet.converged) == ("converged", "", True)
        assert source.runs == 1


@pytest.mark.parametrize("puts_back_before", [True, False])
async def test_it_is_put_back_also_after_a_restart_and_in_a_new_epoch(puts_back_before: bool) -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(RandomKeys(), store=store, late="freeze") as source:
        good = await booted(source)
        await source.register(node("b", port=2))
        assert isinstance(await source.resolve("b"), Missing)
        if puts_back_before:
            await source.register(node("b", port=1))
    await store.new_epoch()
    async with RegistrationConfigSource(RandomKeys(), store=store, late="freeze") as source:
        await source.register(node("b", port=1))
        assert (await files(source, "b")).payload == good["b"].payload
        assert source.fleet(0, "").converged


async def test_a_change_during_the_run_that_is_put_back_is_no_change() -> None:
    class Slow(ReadyAt):
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            loop.call_soon_threadsafe(began.set)
            asyncio.run_coroutine_threadsafe(goes_on.wait(), loop).result(10)
            return super().materialize_snapshot(registrations)

    loop, began, goes_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    async with RegistrationConfigSource(Slow(1), late="freeze") as source:
        await source.register(node("a", port=1))
        await began.wait()
        await source.register(node("a", port=2))
        goes_on.set()
        await until(lambda: source.generation)
        assert isinstance(await source.resolve("a"), Missing)
        await source.register(node("a", port=1))
        await files(source, "a")


async def test_a_server_that_is_frozen_later_knows_what_its_generation_was_made_from() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(RandomKeys(), store=store) as source:
        good = await booted(source)
    async with RegistrationConfigSource(RandomKeys(), store=store, late="freeze") as source:
        await files(source, "b")
        await source.register(node("b", port=2))
        assert "other metadata" in await why(source, "b")
        await source.register(node("b", port=1))
        assert (await files(source, "b")).payload == good["b"].payload


async def test_a_node_is_told_what_differs_and_how_to_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async with RegistrationConfigSource(ReadyAt(3), late="freeze") as source:
        await booted(source)
        caplog.set_level(logging.INFO)
        on = "register b as before, or run cfgsync generation rebuild"
        for registration, differs in (
            (node("b", ip="10.0.0.9", port=1), f"b's address 10.0.0.1 (it is 10.0.0.9 now); {on}"),
            (node("b", port=2), f"other metadata of b; {on}"),
            (node("b", ip="10.0.0.9"), f"b's address 10.0.0.1 (it is 10.0.0.9 now) and other metadata; {on}"),
        ):
            caplog.clear()
            await source.register(registration)
            await source.register(registration)
            expected = f"generation 1 is frozen: it was made with {differs}"
            assert await why(source, "b") == expected
            assert source.node("b").reason.startswith(expected)
            assert [one.message for one in caplog.records] == [f"no files for b: {expected}"]
            assert source.given("b") is None
        await source.register(node("late"))
        assert await why(source, "late") == (
            "generation 1 is frozen: late came later; run cfgsync generation rebuild to take it in"
        )
        await source.register(node("b", port=1))
        assert source.given("b") is not None


async def test_the_fleet_names_what_is_held_back() -> None:
    feed = DocumentsFeed(DocumentsSnapshot({"limits": 1}, version=Version("e", 1)))

    class Reads:
        documents = "app/env"

        def materialize_snapshot(
            self, registrations: RegistrationSnapshot, documents: DocumentsSnapshot
        ) -> MaterializationResult:
            return one_file_each(registrations, str(documents.get("limits")))

    async with RegistrationConfigSource(Reads(), documents=feed, late="freeze") as source:
        await source.register(node("a"))
        await booted(source)
        await source.parts.operator.renew()
        feed.adopt(DocumentsSnapshot({"limits": 2}, version=Version("e", 2)))
        fleet = source.fleet(0, "")
        rest = "cfgsync generation rebuild takes in what has changed since"
        frozen = f"generation {source.generation.number} is frozen; {rest}"
        assert (fleet.reason, fleet.held_back) == (f"{frozen}: the documents", True)
        await source.register(node("b", port=2))
        await source.register(node("late"))
        await source.evict("c")
        assert source.fleet(0, "").reason == f"{frozen}: the documents, b (changed), late (new) and c (left)"
        await source.parts.operator.renew()
        fleet = source.fleet(0, "")
        assert (fleet.reason, bool(fleet.held_back)) == ("", False)


async def test_a_revert_names_what_it_holds_back_and_nothing_else() -> None:
    feed = DocumentsFeed(DocumentsSnapshot({"limits": 1}, version=Version("e", 1)))

    class Reads:
        documents = "app/env"

        def materialize_snapshot(
            self, registrations: RegistrationSnapshot, documents: DocumentsSnapshot
        ) -> MaterializationResult:
            return one_file_each(registrations, str(documents.get("limits")))

    async with RegistrationConfigSource(Reads(), documents=feed) as source:
        await booted(source)
        await source.parts.operator.renew()
        publisher = source.parts.publisher
        first = publisher.current
        feed.adopt(DocumentsSnapshot({"limits": 2}, version=Version("e", 2)))
        await until(
            lambda: publisher.current is not first and publisher.current.source.documents.revision == 2
        )
        await publisher.revert(first)
        source.parts._published()
        head = (
            f"the fleet was taken back to generation {first.number};"
            " cfgsync generation rebuild takes in what has changed since"
        )
        assert source.fleet(0, "").reason == f"{head}: the documents"
        assert source.fleet(0, "").held_back
        await asyncio.sleep(0)
        await source.register(node("b", port=2))
        assert "taken back to generation" in await why(source, "b")
        assert source.node("b").reason.startswith(
            f"registered; the fleet was taken back to generation {first.number}: it"
        )
        assert "other metadata of b" in source.node("b").reason
        await source.register(node("b", port=1))
        assert (await files(source, "b")).generation == publisher.current.text
