"""The generation that a whole rollout came through: kept with its files, and what a revert makes of it."""

from __future__ import annotations

import msgspec
import pytest

from cfgsync_adapter import RegistrationConfigSource, Rollout
from cfgsync_adapter.rollout.words import Outcome, Record, Step, Words
from cfgsync_core import MemoryStore, NodeRegistration, Ready, Version
from cfgsync_core.store import BLOB

from .takers import Noted, renew


async def given(source: RegistrationConfigSource, name: str = "a") -> bytes:
    answer = await source.resolve(name)
    assert isinstance(answer, Ready)
    return answer.payload.local


async def test_the_stable_generation_is_kept_with_its_files_until_another_one_is_and_survives_a_restart() -> (
    None
):
    materializer, store = Noted("1"), MemoryStore()
    async with RegistrationConfigSource(materializer, store=store) as source:
        await source.register(NodeRegistration("a", "10.0.0.1"))
        first = await given(source)
        await source.parts.publisher.keep(source.generation)
        for note in ("2", "3", "4"):
            await renew(materializer, note, source.parts.operator.renew)
        publisher = source.parts.publisher
        assert [one.number for one in (publisher.stable, publisher.previous, publisher.current)] == [1, 3, 4]
    async with RegistrationConfigSource(materializer, store=store) as source:
        publisher = source.parts.publisher
        assert publisher.numbered(1).nodes["a"].local == first
        assert publisher.numbered(2) is None
        await publisher.keep(publisher.current)
        blobs = [key for key in publisher.entries if key.startswith(BLOB)]
        assert len(blobs) == 2 * 2 + 1, "own files and map of two generations, and the shared files of both"


async def test_a_revert_is_a_claim_and_a_generation_in_one_commit_and_frozen_until_the_next_claim() -> None:
    materializer, store = Noted("1"), MemoryStore()
    async with RegistrationConfigSource(materializer, store=store) as source:
        await source.register(NodeRegistration("a", "10.0.0.1"))
        first = await given(source)
        publisher = source.parts.publisher
        await publisher.keep(source.generation)
        await renew(materializer, "2", source.parts.operator.renew)
        claim, revision = publisher.claim.number, publisher.version.revision
        made = await publisher.revert(publisher.numbered(1))
        assert publisher.version.revision == revision + 1
        assert (made.number, made.reverts, publisher.claim.number) == (3, 1, claim + 1)
        assert await given(source) == first
        await source.register(NodeRegistration("b", "10.0.0.1"))
        answer = await source.resolve("b")
        assert "taken back to generation 1" in answer.reason
        assert source.parts.runs.is_frozen
    async with RegistrationConfigSource(materializer, store=store) as source:
        assert await given(source) == first, "a restart of the same program changes nothing"
        assert "taken back" in (await source.resolve("b")).reason
    async with RegistrationConfigSource(materializer, store=store, revision="v2") as source:
        assert isinstance(await source.resolve("b"), Ready)
        assert source.generation.number == 4


async def test_rollout_all_ignores_what_a_halted_rollout_has_left() -> None:
    materializer, store = Noted("1"), MemoryStore()
    async with RegistrationConfigSource(materializer, store=store) as source:
        await source.register(NodeRegistration("a", "10.0.0.1"))
        await given(source)
        turns, number = source.parts.turns, source.generation.version
        await turns._commit(Words(Record(number, halted=True, paused=True)))
    async with RegistrationConfigSource(materializer, store=store, rollout=Rollout("all")) as source:
        assert isinstance(await source.turn_to("a", known="sha256-" + "0" * 64), Ready)


def test_how_each_rollout_ended_is_one_word_of_its_step() -> None:
    def step(before: Record, after: Record) -> list[tuple[int, str]]:
        made = Step.between(Words(before), Words(after))
        assert made is not None
        return [(one.number, one.words) for one in made.outcomes]

    five, six = Record(Version("e", 5)), Record(Version("e", 6))
    replaced = msgspec.structs.replace
    assert step(five, replaced(five, whole=True)) == [(5, "rolled out")]
    assert step(five, replaced(five, halted=True)) == [(5, "halted")]
    assert step(replaced(five, halted=True), replaced(six, reverts=3)) == [
        (4, "reverted by 6"),
        (5, "reverted by 6"),
    ]
    assert list(Step(five, {}, (Outcome(205, "halted"),)).writes()) == ["state", "outcome/05"]


async def test_a_rebuild_that_keeps_the_generation_of_a_revert_is_not_logged_as_published(
    caplog: pytest.LogCaptureFixture,
) -> None:
    materializer = Noted("1")
    async with RegistrationConfigSource(materializer) as source:
        await source.register(NodeRegistration("a", "10.0.0.1"))
        await given(source)
        await renew(materializer, "2", source.parts.operator.renew)
        await source.parts.publisher.revert(source.parts.publisher.numbered(1))
        caplog.set_level("INFO", logger="cfgsync")
        caplog.clear()
        await renew(materializer, "1", source.parts.operator.renew)
        assert source.generation.number == 3
        assert not [one for one in caplog.messages if "published" in one]
