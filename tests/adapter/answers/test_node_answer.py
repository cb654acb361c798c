"""The six rows of what `POST /node` answers (`architecture.md`, "Generations"), in process, with no server."""

from __future__ import annotations

import asyncio
import time

import pytest

from cfgsync_adapter import MaterializedArtifacts, NotReady, RegistrationConfigSource, RegistrationSnapshot
from cfgsync_core import MaterializationFailed, Missing, Ready, Unavailable
from tests.adapter.fleets import Obedient, ReadyAt, node, one_file_each


@pytest.mark.timed
async def test_row_1_a_stranger_is_told_at_once_that_it_is_not_registered() -> None:
    async with RegistrationConfigSource(ReadyAt(1)) as source:
        began = time.monotonic()
        answer = await source.resolve("nobody", wait=10)
        assert isinstance(answer, NotReady)
        assert not answer.registered
        assert time.monotonic() - began < 0.5
        assert source.runs == 0


async def test_row_2_a_node_of_the_current_generation_is_answered_at_once() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        await source.register(node("a"))
        await source.register(node("b"))
        first = await source.resolve("a")
        second = await source.resolve("b")
        assert isinstance(first, Ready)
        assert isinstance(second, Ready)
        assert first.generation == second.generation
        assert first.payload.files[0].content == "a,b "


async def test_row_2_last_good_is_served_while_a_newer_run_says_not_ready_or_fails() -> None:
    async with RegistrationConfigSource(Obedient()) as source:
        await source.register(node("a"))
        good = await source.resolve("a")
        await source.register(node("b", not_ready="b is drunk"))
        with_b = await source.resolve("b")
        assert isinstance(with_b, NotReady)
        assert with_b.reason == "b is drunk"
        assert await source.resolve("a") == good
        await source.register(node("b", fail="b has fallen"))
        with pytest.raises(MaterializationFailed) as failure:
            await source.resolve("b")
        assert failure.value.cause == "b has fallen"
        assert await source.resolve("a") == good


async def test_row_2_a_node_that_the_ready_result_leaves_out_is_missing() -> None:
    async with RegistrationConfigSource(Obedient()) as source:
        await source.register(node("a"))
        await source.register(node("b", skip=True))
        assert await source.resolve("b") == Missing()
        assert isinstance(await source.resolve("a"), Ready)


@pytest.mark.timed
async def test_row_3_a_frozen_generation_refuses_who_came_later_with_a_reason() -> None:
    async with RegistrationConfigSource(ReadyAt(1), late="freeze") as source:
        await source.register(node("a"))
        good = await source.resolve("a")
        await source.register(node("late"))
        began = time.monotonic()
        assert (await source.resolve("late", wait=5)).reason.startswith(
            "generation 1 is frozen: late came later;"
        )
        assert time.monotonic() - began < 0.5
        assert await source.resolve("a") == good
        await source.register(node("a", ip="10.0.0.9"))
        assert (await source.resolve("a")).reason.startswith(
            "generation 1 is frozen: it was made with a's address"
        )


async def test_row_4_what_was_registered_before_the_question_is_in_its_answer() -> None:
    async with RegistrationConfigSource(ReadyAt(1)) as source:
        for number in range(20):
            await source.register(node(f"n{number:02}"))
            answer = await source.resolve(f"n{number:02}")
            assert isinstance(answer, Ready)
            assert answer.payload.files[0].content.split()[0].count(",") == number


async def test_row_4_a_changed_address_or_metadata_is_in_the_answer_too() -> None:
    class Addresses:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
            return one_file_each(registrations, " ".join(f"{r.ip}{r.metadata}" for r in registrations))

    async with RegistrationConfigSource(Addresses()) as source:
        await source.register(node("a"))
        first = await source.resolve("a")
        await source.register(node("a", ip="10.0.0.2"))
        second = await source.resolve("a")
        await source.register(node("a", ip="10.0.0.2", port=1))
        third = await source.resolve("a")
        texts = [
            answer.payload.files[0].content for answer in (first, second, third) if isinstance(answer, Ready)
        ]
        assert texts == ["a 10.0.0.1None", "a 10.0.0.2None", "a 10.0.0.2{'port': 1}"]


@pytest.mark.timed
async def test_row_5_a_failed_run_is_told_at_once_also_to_who_is_held_already() -> None:
    async with RegistrationConfigSource(Obedient()) as source:
        await source.register(node("a", not_ready="patience"))
        held = asyncio.create_task(source.resolve("a", wait=20))
        await asyncio.sleep(0.2)
        assert not held.done()
        await source.register(node("b", fail="boom"))
        # b's question waits for the run; a is held in row 6 until that run fails, as is b
        await source.register(node("a"))
        began = time.monotonic()
        with pytest.raises(MaterializationFailed) as failure:
            await held
        assert failure.value.in_full.startswith(
            "failed to materialize config snapshot: boom (RuntimeError in "
        )
        assert time.monotonic() - began < 3


@pytest.mark.timed
async def test_row_6_not_ready_is_held_until_the_prefer_time_and_then_asks_to_come_back_at_once() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        await source.register(node("a"))
        began = time.monotonic()
        answer = await source.resolve("a", wait=0.6)
        assert 0.55 < time.monotonic() - began < 1.5
        assert answer == NotReady("waiting for 2 nodes, have 1", retry_after=0)
        impatient = await source.resolve("a")
        assert impatient == NotReady("waiting for 2 nodes, have 1", retry_after=1)


@pytest.mark.timed
async def test_row_6_a_held_node_is_answered_as_soon_as_the_run_says_ready() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        await source.register(node("a"))
        held = asyncio.create_task(source.resolve("a", wait=20))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await source.register(node("b"))
        answer = await held
        assert isinstance(answer, Ready)
        assert time.monotonic() - began < 0.5


@pytest.mark.timed
async def test_row_6_a_materializer_that_does_not_return_is_materializing() -> None:
    class Slow:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
            time.sleep(4)
            return one_file_each(registrations)

    async with RegistrationConfigSource(Slow()) as source:
        await source.register(node("a"))
        began = time.monotonic()
        answer = await source.resolve("a")
        assert answer == NotReady("materializing", retry_after=1)
        assert 1.9 < time.monotonic() - began < 3


async def test_a_known_digest_holds_the_answer_until_it_changes() -> None:
    async with RegistrationConfigSource(ReadyAt(1)) as source:
        await source.register(node("a"))
        first = await source.resolve("a")
        assert isinstance(first, Ready)
        same = await source.resolve("a", known=first.payload.digest, wait=0.3)
        assert same == first
        held = asyncio.create_task(source.resolve("a", known=first.payload.digest, wait=20))
        await asyncio.sleep(0.1)
        await source.register(node("b"))
        changed = await held
        assert isinstance(changed, Ready)
        assert changed.payload.files[0].content == "a,b "


async def test_a_newer_question_of_the_same_node_supersedes_the_held_one() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        await source.register(node("a"))
        older = asyncio.create_task(source.resolve("a", wait=20))
        await asyncio.sleep(0.2)
        newer = asyncio.create_task(source.resolve("a", wait=1))
        answer = await older
        assert isinstance(answer, NotReady)
        assert answer.retry_after == 5
        assert "two processes" in source.node("a").reason
        await newer


async def test_draining_tells_everybody_to_come_back() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        await source.register(node("a"))
        held = asyncio.create_task(source.resolve("a", wait=20))
        await asyncio.sleep(0.1)
        source.drain()
        with pytest.raises(Unavailable):
            await held
        with pytest.raises(Unavailable):
            await source.register(node("b"))


async def test_a_node_that_goes_away_while_it_is_held_is_forgotten() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        await source.register(node("a"))
        held = asyncio.create_task(source.resolve("a", wait=20))
        await asyncio.sleep(0.1)
        assert source.fleet(10, "").waiting == 1
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        assert source.fleet(10, "").waiting == 0
