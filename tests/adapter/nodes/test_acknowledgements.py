"""What nodes say they have applied: fenced by generation, converging by digest, durable, and no revision of anything else."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_adapter.nodes.acknowledgements import Acknowledged
from cfgsync_core import Acknowledgement, MemoryStore, NotReady, Ready, StaleGeneration, Unavailable
from cfgsync_core.store.epoch import mint_epoch
from tests.adapter.fleets import RandomKeys, ReadyAt, node
from tests.faults import BrokenStore
from tests.seeds import drawn_seed


class OwnFiles:
    """Each node's file says its own metadata, so that a change of one node touches nobody else."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        return MaterializedArtifacts.from_nodes(
            {r.identifier: ArtifactSet([ArtifactFile("/own", f"{r.payload.json}")]) for r in registrations}
        )


async def current(source: RegistrationConfigSource, identifier: str) -> Acknowledgement:
    """The acknowledgement that this node owes now."""
    answer = await source.resolve(identifier)
    assert isinstance(answer, Ready)
    assert answer.generation is not None
    return Acknowledgement(identifier, answer.generation, answer.payload.digest, "applied")


async def applied(source: RegistrationConfigSource, *identifiers: str) -> None:
    for identifier in identifiers:
        assert await source.acknowledge(await current(source, identifier)) is None


def failed(said: Acknowledgement, reason: str | None) -> Acknowledgement:
    return Acknowledgement(said.identifier, said.generation, said.digest, "failed", reason)


async def test_an_applied_generation_is_named_in_the_status_and_the_fleet_has_converged() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        await source.register(node("a"))
        await source.register(node("b"))
        said = await current(source, "a")
        await source.acknowledge(said)
        assert (source.node("a").applied, source.node("a").state) == (said.generation, "applied")
        assert (source.node("b").applied, source.node("b").last_failure) == (None, None)
        half = source.fleet(10, "")
        assert (half.applied, half.converged, [n.identifier for n in half.behind]) == (1, False, ["b"])
        await applied(source, "b")
        whole = source.fleet(10, "")
        assert (whole.applied, whole.converged, whole.behind) == (2, True, ())


async def test_a_node_that_is_unchanged_owes_no_new_acknowledgement() -> None:
    async with RegistrationConfigSource(OwnFiles()) as source:
        await source.register(node("a"))
        await source.register(node("b"))
        await applied(source, "a", "b")
        await source.register(node("b", note="changed"))
        newer = await current(source, "b")
        assert source.node("a").applied == newer.generation, "the newest generation with its digest"
        assert source.node("b").applied not in (None, newer.generation)
        fleet = source.fleet(10, "")
        assert (fleet.applied, [n.identifier for n in fleet.behind]) == (1, ["b"])
        said = "served generation 2, which it has not acknowledged yet; generation 1 is applied"
        assert fleet.behind[0].reason == said
        await source.acknowledge(newer)
        assert source.fleet(10, "").converged


async def test_a_generation_that_does_not_cover_everybody_is_no_convergence() -> None:
    async with RegistrationConfigSource(ReadyAt(1), late="freeze") as source:
        await source.register(node("a"))
        await applied(source, "a")
        assert source.fleet(10, "").converged
        await source.register(node("late"))
        fleet = source.fleet(10, "")
        assert (fleet.applied, fleet.converged) == (1, False)
        assert [n.identifier for n in fleet.behind] == ["late"]
        assert "frozen" in fleet.behind[0].reason


async def test_nobody_is_no_convergence() -> None:
    async with RegistrationConfigSource(ReadyAt(1)) as source:
        assert not source.fleet(10, "").converged


async def test_a_node_that_gets_no_files_keeps_nobody_from_converging() -> None:
    class OnlyA:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            return MaterializedArtifacts.from_nodes({"a": ArtifactSet([ArtifactFile("/x", "x")])})

    async with RegistrationConfigSource(OnlyA()) as source:
        await source.register(node("a"))
        await source.register(node("guest"))
        await applied(source, "a")
        fleet = source.fleet(10, "")
        assert (fleet.registered, fleet.applied, fleet.converged) == (2, 1, True)


async def test_the_previous_generation_may_be_acknowledged_and_an_older_one_is_stale() -> None:
    async with RegistrationConfigSource(RandomKeys()) as source:
        await source.register(node("a"))
        generations = [await current(source, "a")]
        for n in range(2):
            await source.register(node("a", n=n))
            generations.append(await current(source, "a"))
        oldest, previous, newest = generations
        await source.acknowledge(previous)
        assert source.node("a").applied == previous.generation
        with pytest.raises(StaleGeneration) as stale:
            await source.acknowledge(oldest)
        assert (stale.value.generation, stale.value.current) == (oldest.generation, newest.generation)
        foreign = Acknowledgement("a", f"{mint_epoch()}.3", newest.digest, "applied")
        with pytest.raises(StaleGeneration):
            await source.acknowledge(foreign)
        assert source.node("a").applied == previous.generation


async def test_without_a_generation_every_acknowledgement_is_stale() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        await source.register(node("a"))
        with pytest.raises(StaleGeneration, match="no generation is published"):
            await source.acknowledge(
                Acknowledgement("a", f"{mint_epoch()}.1", f"sha256-{'0' * 64}", "applied")
            )


async def test_who_is_not_registered_is_told_so_and_remembered_nowhere() -> None:
    async with RegistrationConfigSource(ReadyAt(1)) as source:
        await source.register(node("a"))
        said = await current(source, "a")
        answer = await source.acknowledge(
            Acknowledgement("stranger", said.generation, said.digest, "applied")
        )
        assert isinstance(answer, NotReady)
        assert not answer.registered
        assert source.node("stranger").applied is None


async def test_a_failure_stands_beside_what_was_applied_before_until_it_is_applied() -> None:
    async with RegistrationConfigSource(RandomKeys()) as source:
        await source.register(node("a"))
        await applied(source, "a")
        first = source.node("a").applied
        await source.register(node("a", changed=True))
        newer = await current(source, "a")
        await source.acknowledge(failed(newer, "/srv is read-only"))
        told = source.node("a")
        assert (told.applied, told.last_failure) == (first, "generation 2: /srv is read-only")
        assert (told.state, told.because) == ("not_applied", "/srv is read-only")
        assert told.reason == "could not apply generation 2: /srv is read-only; generation 1 is applied"
        assert source.fleet(10, "").behind[0].reason == told.reason
        await source.acknowledge(newer)
        mended = source.node("a")
        assert (mended.applied, mended.last_failure, mended.state) == (newer.generation, None, "applied")


async def test_a_generation_that_the_node_refused_as_a_step_back_is_told_with_its_words() -> None:
    """The server was restored from an old backup: its current generation is one that the node has passed."""
    async with RegistrationConfigSource(RandomKeys()) as source:
        await source.register(node("a"))
        said = await current(source, "a")
        words = "the server answers with generation 1, this node has seen 9"
        assert await source.acknowledge(failed(said, words)) is None
        assert source.node("a").last_failure == f"generation 1: {words}"
        assert source.node("a").reason == f"could not apply generation 1: {words}; nothing is applied yet"


async def test_a_fleet_that_refuses_what_it_had_once_has_not_converged() -> None:
    """The server was restored from a backup in which these files were acknowledged; the nodes are further."""
    async with RegistrationConfigSource(RandomKeys()) as source:
        await source.register(node("a"))
        await applied(source, "a")
        assert source.fleet(10, "").converged
        said = await current(source, "a")
        await source.acknowledge(failed(said, "history was lost"))
        fleet = source.fleet(10, "")
        assert (fleet.applied, fleet.converged, fleet.behind_count) == (0, False, 1)
        assert [n.identifier for n in fleet.behind] == ["a"]
        assert (
            fleet.behind[0].reason
            == "could not apply generation 1: history was lost; it had applied it before"
        )
        assert (fleet.nodes[0].state, fleet.nodes[0].applied) == ("not_applied", said.generation)
        await source.acknowledge(said)
        assert source.fleet(10, "").converged


async def test_a_failure_with_other_files_than_those_that_are_wanted_now_is_over() -> None:
    async with RegistrationConfigSource(OwnFiles()) as source:
        await source.register(node("a", note="one"))
        await applied(source, "a")
        await source.register(node("a", note="two"))
        await source.acknowledge(failed(await current(source, "a"), "full"))
        assert not source.fleet(10, "").converged
        await source.register(node("a", note="one"))
        assert source.node("a").registered
        await current(source, "a")
        assert source.fleet(10, "").converged, "it has these files, and never failed to apply them"
        assert source.node("a").state == "applied"


async def test_files_that_the_generation_never_gave_are_those_of_no_generation() -> None:
    async with RegistrationConfigSource(OwnFiles()) as source:
        await source.register(node("a"))
        true = await current(source, "a")
        wrong = Acknowledgement("a", true.generation, f"sha256-{'0' * 64}", "applied")
        assert await source.acknowledge(wrong) is None
        told = source.node("a")
        assert (told.applied, told.state) == (None, "served")
        assert not source.fleet(10, "").converged
        await source.acknowledge(failed(wrong, "disk"))
        assert source.node("a").reason == "could not apply generation 1: disk; nothing is applied yet"
        await source.acknowledge(true)
        assert (source.node("a").applied, source.node("a").state) == (true.generation, "applied")


async def test_a_failure_before_anything_was_served_does_not_claim_that_it_was() -> None:
    async with RegistrationConfigSource(OwnFiles()) as source:
        await source.register(node("a"))
        await source.register(node("b"))
        given = await current(source, "b")
        said = Acknowledgement("a", given.generation, given.digest, "failed", "disk")
        await source.acknowledge(said)
        assert source.node("a").served is None
        assert source.node("a").reason == "could not apply generation 1: disk; nothing is applied yet"


async def test_the_words_of_a_node_cannot_move_a_terminals_cursor() -> None:
    async with RegistrationConfigSource(RandomKeys()) as source:
        await source.register(node("a"))
        await source.acknowledge(failed(await current(source, "a"), "\x1b[2J\x9b1m\nno"))
        told = source.node("a")
        assert f"{told.last_failure}{told.reason}{told.because}".isprintable()


async def test_acknowledgements_are_no_revision_of_the_registrations_and_an_equal_one_commits_nothing() -> (
    None
):
    store = MemoryStore()
    async with RegistrationConfigSource(RandomKeys(), store=store) as source:
        await source.register(node("a"))
        said = await current(source, "a")
        before = await store.version("registrations"), await store.version("generations")
        for _ in range(3):
            await source.acknowledge(said)
        assert (await store.version("acknowledgements")).revision == 1
        for _ in range(3):
            await source.acknowledge(failed(said, "no"))
        assert (await store.version("acknowledgements")).revision == 2
        assert (await store.version("registrations"), await store.version("generations")) == before
        assert source.runs == 1


async def test_a_restart_makes_no_fleet_look_behind() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(OwnFiles(), store=store) as source:
        for name in "abc":
            await source.register(node(name))
        await applied(source, "a", "b")
        await source.acknowledge(failed(await current(source, "c"), "no space left"))
        before = [source.node(name) for name in "abc"]
    async with RegistrationConfigSource(OwnFiles(), store=store) as source:
        after = [source.node(name) for name in "abc"]
        assert [n.applied for n in after] == [n.applied for n in before]
        assert [n.last_failure for n in after] == [None, None, "generation 1: no space left"]
        assert source.fleet(10, "").applied == 2


async def test_an_acknowledgement_that_could_not_be_kept_is_refused_and_not_shown() -> None:
    store = BrokenStore(MemoryStore(), after=100)
    async with RegistrationConfigSource(RandomKeys(), store=store) as source:
        await source.register(node("a"))
        said = await current(source, "a")
        store.break_after(0)
        with pytest.raises(Unavailable):
            await source.acknowledge(said)
        assert source.node("a").applied is None
        store.mend()
        await source.acknowledge(said)
        assert source.node("a").applied == said.generation


async def test_a_node_that_goes_away_while_it_acknowledges_has_said_it() -> None:
    class Slow(MemoryStore):
        async def commit(self, bucket: str, *arguments: object, **more: object):  # type: ignore[no-untyped-def]
            if bucket == "acknowledgements":
                await asyncio.sleep(0.05)
            return await super().commit(bucket, *arguments, **more)  # type: ignore[arg-type]

    async with RegistrationConfigSource(RandomKeys(), store=Slow()) as source:
        await source.register(node("a"))
        said = await current(source, "a")
        asking = asyncio.create_task(source.acknowledge(said))
        await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.sleep(0.1)
        assert source.node("a").applied == said.generation


async def test_acknowledgements_of_one_node_that_overtake_each_other_end_with_the_last() -> None:
    chance = random.Random(drawn_seed())

    class Shuffled(MemoryStore):
        """Commits in order, answers in any."""

        async def commit(self, bucket: str, *arguments: object, **more: object):  # type: ignore[no-untyped-def]
            version = await super().commit(bucket, *arguments, **more)  # type: ignore[arg-type]
            if bucket == "acknowledgements":
                await asyncio.sleep(chance.random() / 100)
            return version

    store = Shuffled()
    async with RegistrationConfigSource(RandomKeys(), store=store) as source:
        await source.register(node("a"))
        said = await current(source, "a")
        words = [failed(said, f"try {n}") for n in range(20)]
        await asyncio.gather(*(source.acknowledge(one) for one in [said, *words]))
        told = source.node("a")
        assert (told.applied, told.last_failure) == (said.generation, "generation 1: try 19")
    async with RegistrationConfigSource(RandomKeys(), store=store) as source:
        assert source.node("a").last_failure == told.last_failure


@pytest.mark.timed
async def test_the_status_of_ten_thousand_nodes_does_not_stall_the_loop() -> None:
    async with RegistrationConfigSource(OwnFiles()) as source:
        names = [f"node-{n}" for n in range(10_000)]
        for name in names:
            await source.register(node(name))
        await asyncio.gather(*(applied(source, name) for name in names[:9_900]))
        began = time.process_time()
        first = source.fleet(1_000, "")
        cold = time.process_time() - began
        began = time.process_time()
        again = source.fleet(1_000, "")
        warm = time.process_time() - began
        print(f"cold {cold * 1000:.1f} ms, warm {warm * 1000:.1f} ms")
        assert first == again
        assert (first.applied, len(first.behind), first.converged) == (9_900, 20, False)
        assert cold < 0.25
        assert warm < 0.1


def test_paths_that_drifted_stay_through_a_failure_and_go_with_the_next_applied_files() -> None:
    digest = f"sha256-{'0a' * 32}"
    generation = f"{mint_epoch()}.1"
    said = Acknowledged().after(Acknowledgement("a", generation, digest, "applied", drifted=("/a",)))
    said = said.after(Acknowledgement("a", generation, digest, "failed", "why"))
    assert said.drifted == ("/a",)
    assert said.after(Acknowledgement("a", generation, digest, "applied")).drifted == ()
