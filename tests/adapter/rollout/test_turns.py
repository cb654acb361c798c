"""Turns of a real source: nodes in this process ask, change and acknowledge, and an observer counts from outside."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from cfgsync_adapter import RegistrationConfigSource, Rollout
from cfgsync_adapter.rollout import commands
from cfgsync_adapter.rollout.turns import NotThisGeneration
from cfgsync_core import MemoryHints, MemoryStore, Ready, Version
from cfgsync_core.store.notifying import NotifyingStore
from cfgsync_core.wire import Kept, Turn
from tests.chaos.form import LONG
from tests.faults import LostHints

from .takers import Crowd, Noted, Taker, Watched, eventually, renew

NAMES = [f"n{number:02}" for number in range(12)]


def record(source: RegistrationConfigSource):
    return source.parts.turns.words.record


async def booted(source, crowd: Crowd) -> None:
    await eventually(lambda: crowd.have("first") and source.generation is not None)
    await eventually(lambda: record(source).whole and record(source).generation == source.generation.version)


async def test_ro_1_and_ro_2_a_change_comes_in_waves_and_never_more_at_once_than_allowed() -> None:
    materializer, watched = Noted(), Watched()
    async with (
        RegistrationConfigSource(materializer, rollout=Rollout(max_parallel=3)) as source,
        Crowd(Taker(name, lambda: source, watched, trial=0.05) for name in NAMES) as crowd,
    ):
        await booted(source, crowd)
        await renew(materializer, "second", source.parts.operator.renew)
        await eventually(lambda: crowd.have("second") and record(source).whole)
        assert 1 < watched.most["default"] <= 3
        assert sorted(watched.changed) == NAMES, "each node was restarted once"
        assert source.parts.publisher.stable is source.generation
        assert source.parts.turns.outcome_of(source.generation.number) == "rolled out"


async def test_two_groups_take_turns_side_by_side_and_a_node_that_takes_none_does_not_wait() -> None:
    materializer, watched = Noted(), Watched()
    async with RegistrationConfigSource(materializer, rollout=Rollout(max_parallel=1)) as source:
        takers = [Taker(name, lambda: source, watched, trial=0.3) for name in NAMES[:3]]
        takers += [Taker(name, lambda: source, watched, trial=0.3, group="etcd") for name in NAMES[3:6]]
        takers += [Taker("plain", lambda: source, Watched(), takes_turns=False)]
        async with Crowd(takers) as crowd:
            await booted(source, crowd)
            await renew(materializer, "second", source.parts.operator.renew)
            await eventually(lambda: all(watched.restarting.get(group) for group in ("default", "etcd")))
            await eventually(lambda: crowd.takers["plain"].note == "second")
            await eventually(lambda: crowd.have("second"))
            assert watched.most == {"default": 1, "etcd": 1}


async def test_ro_4_and_ro_8_bad_content_disturbs_one_node_and_the_third_generation_heals_by_itself() -> None:
    materializer, watched = Noted(), Watched()
    async with RegistrationConfigSource(materializer, rollout=Rollout(max_parallel=4)) as source:
        takers = [Taker(name, lambda: source, watched, bad=("bad", "worse")) for name in NAMES]
        async with Crowd(takers) as crowd:
            await booted(source, crowd)
            await renew(materializer, "bad", source.parts.operator.renew)
            await eventually(lambda: record(source).halted)
            (name,) = record(source).failed
            assert record(source).failed[name].reason == "exit status 1"
            newcomer = Taker("newcomer", lambda: source, Watched())
            await crowd.add(newcomer)
            await eventually(lambda: newcomer.note == "bad")  # RO-3: it has nothing, and gets the newest
            await renew(materializer, "worse", source.parts.operator.renew)
            await eventually(lambda: "worse" in crowd.takers[name].given and record(source).halted)
            assert sorted(set(watched.changed)) == [name], "nobody else was disturbed"
            newcomer.bad = frozenset()
            await renew(materializer, "good", source.parts.operator.renew)
            await eventually(lambda: crowd.have("good") and record(source).whole)
            assert source.parts.turns.outcome_of(record(source).generation.revision) == "rolled out"


async def test_a_start_and_a_watch_without_a_command_keep_what_they_have_while_it_is_halted() -> None:
    materializer = Noted()
    async with (
        RegistrationConfigSource(materializer, rollout=Rollout(max_parallel=1)) as source,
        Crowd(Taker(name, lambda: source, Watched(), bad=("bad",)) for name in NAMES[:3]) as crowd,
    ):
        await booted(source, crowd)
        old = crowd.takers["n02"].known
        await renew(materializer, "bad", source.parts.operator.renew)
        await eventually(lambda: record(source).halted)
        waits = source.generation.text
        steady = Turn("default", "steady")
        other = next(name for name in NAMES[:3] if name not in record(source).failed)
        assert await source.turn_to(other, known=old, turn=steady) == Kept(waits)
        assert await source.turn_to(other, known=old) == Kept(waits)
        assert isinstance(await source.turn_to(other), Ready), "an original client names nothing"
        assert isinstance(await source.resolve(other, known=old), Ready)


async def test_ro_5_a_holder_that_dies_is_late_at_the_deadline_and_takes_its_turn_when_it_is_back() -> None:
    materializer, watched = Noted(), Watched()
    policy = Rollout(max_parallel=1, deadline=0.5, max_failures=1)
    async with RegistrationConfigSource(materializer, rollout=policy) as source:
        takers = [Taker(name, lambda: source, watched, trial=0.1) for name in NAMES[:4]]
        takers[0].trial = 100
        async with Crowd(takers) as crowd:
            await booted(source, crowd)
            await renew(materializer, "second", source.parts.operator.renew)
            await eventually(lambda: source.parts.turns.stored.turns)
            await eventually(lambda: record(source).halted, within=20)
            assert record(source).failed["n00"].late
            await crowd.stop("n00")
            crowd.takers["n00"].trial = 0.0
            crowd.start("n00")
            await eventually(lambda: crowd.have("second") and record(source).whole)


async def test_ro_7_a_revert_goes_back_without_the_nodes_that_never_left() -> None:
    materializer, watched = Noted(), Watched()
    async with (
        RegistrationConfigSource(materializer, rollout=Rollout(max_parallel=2, canary=1)) as source,
        Crowd(Taker(name, lambda: source, watched) for name in NAMES[:5]) as crowd,
    ):
        await booted(source, crowd)
        stable = source.generation.number
        await renew(materializer, "second", source.parts.operator.renew)
        await eventually(lambda: record(source).phase == "canary")
        (changed,) = watched.changed
        watched.changed.clear()
        await source.parts.turns.command(lambda words: commands.halt_to_revert(words, stable))
        await eventually(lambda: source.generation.reverts == stable)
        await eventually(lambda: crowd.have("first") and record(source).whole)
        assert watched.changed == [changed]
        assert source.generation.number == stable + 2
        assert source.parts.turns.outcome_of(stable + 1) == f"reverted by {stable + 2}"
        # it is frozen until the next claim
        late = Taker("late", lambda: source, Watched())
        await crowd.add(late)
        await eventually(lambda: "late" in source.parts.registry)
        answer = await source.turn_to("late")
        assert "taken back to generation" in answer.reason
        assert "taken back to generation" in source.node("late").reason
        await source.parts.operator.renew()
        await eventually(lambda: late.note == "second")


async def test_on_failure_revert_goes_back_by_itself_once_in_a_claim() -> None:
    materializer = Noted()
    policy = Rollout(max_parallel=1, on_failure="revert")
    async with (
        RegistrationConfigSource(materializer, rollout=policy) as source,
        Crowd(Taker(name, lambda: source, Watched(), bad=("bad",)) for name in NAMES[:4]) as crowd,
    ):
        await booted(source, crowd)
        await renew(materializer, "bad", source.parts.operator.renew)
        await eventually(lambda: source.generation.reverts)
        await eventually(lambda: record(source).whole)
        assert crowd.have("first")


async def test_a_revert_that_a_crash_interrupted_is_finished_at_the_next_start() -> None:
    materializer, store = Noted(), MemoryStore()
    async with RegistrationConfigSource(materializer, store=store) as source:
        async with Crowd(Taker(name, lambda: source, Watched()) for name in NAMES[:3]) as crowd:
            await booted(source, crowd)
            first = source.generation.number
            await renew(materializer, "second", source.parts.operator.renew)
            await eventually(lambda: crowd.have("second") and record(source).whole)
        turns = source.parts.turns
    await turns._commit(commands.halt_to_revert(turns.words, first))  # and then the server is killed
    async with RegistrationConfigSource(materializer, store=store) as source:
        await eventually(lambda: source.generation.reverts == first)


async def test_resume_promote_and_pause_and_a_command_about_another_generation() -> None:
    materializer = Noted()
    async with RegistrationConfigSource(materializer, rollout=Rollout(max_parallel=1)) as source:
        turns = source.parts.turns
        async with Crowd(Taker(name, lambda: source, Watched(), bad=()) for name in NAMES[:4]) as crowd:
            await booted(source, crowd)
            text = source.generation.text
            crowd.takers["n01"].bad = frozenset({"second"})
            with pytest.raises(NotThisGeneration):
                await turns.command(commands.pause, f"{text}1")
            await turns.command(commands.pause, text)
            await renew(materializer, "second", source.parts.operator.renew)
            assert record(source).phase == "paused"
            await turns.command(commands.resume, source.generation.text)
            await eventually(lambda: record(source).halted)
            await turns.command(commands.resume)
            await eventually(lambda: len(crowd.with_note("second")) == 3)
            assert list(record(source).left_behind) == ["n01"]
            crowd.takers["n01"].bad = frozenset()
            await turns.command(commands.retry)
            await eventually(lambda: crowd.have("second") and record(source).whole)
            await turns.command(commands.pause)
            await renew(materializer, "third", source.parts.operator.renew)
            await turns.command(commands.promote)
            await eventually(lambda: crowd.have("third"))


async def test_at_once_and_rollout_all_reach_everybody_at_the_same_time() -> None:
    materializer, watched = Noted(), Watched()
    async with (
        RegistrationConfigSource(materializer, rollout=Rollout(max_parallel=1)) as source,
        Crowd(Taker(name, lambda: source, watched, trial=0.2) for name in NAMES) as crowd,
    ):
        await booted(source, crowd)
        materializer.is_at_once = True
        await renew(materializer, "second", source.parts.operator.renew)
        await eventually(lambda: crowd.have("second"))
        assert watched.most["default"] == 12
        materializer.is_at_once = False
        await source.parts.operator.renew(at_once=True)
        assert source.generation.at_once
    watched = Watched()
    async with (
        RegistrationConfigSource(materializer, rollout=Rollout(mode="all")) as source,
        Crowd(Taker(name, lambda: source, watched, trial=0.2) for name in NAMES) as crowd,
    ):
        await eventually(lambda: crowd.have("second"))
        await renew(materializer, "third", source.parts.operator.renew)
        await eventually(lambda: crowd.have("third"))
        assert watched.most["default"] == 12
        assert len(source.parts.turns) == 0, "nothing was written for it"


@pytest.mark.timeout(240)
async def test_ro_9_a_generation_every_moment_leaves_nobody_behind() -> None:
    """In the long form a generation every 3 s for two minutes, while a program needs a second."""
    pause, trial = (3.0, 1.0) if LONG else (0.03, 0.05)
    materializer, watched = Noted(), Watched()
    async with (
        RegistrationConfigSource(materializer, rollout=Rollout(max_parallel=1)) as source,
        Crowd(Taker(name, lambda: source, watched, trial=trial) for name in NAMES[:9]) as crowd,
    ):
        await booted(source, crowd)
        for number in range(40):
            await renew(materializer, str(number), source.parts.operator.renew)
            await asyncio.sleep(pause)
        counts = [watched.changed.count(name) for name in NAMES[:9]]
        print(f"turns of each node: {counts}")
        assert min(counts) >= 1
        assert 2 * min(counts) >= max(counts), "they take turns by age"
        await eventually(lambda: crowd.have("39") and record(source).whole)
        assert watched.most["default"] == 1


async def test_ro_10_and_leaving_an_evicted_holder_frees_its_turn_and_a_failed_one_stays_counted() -> None:
    materializer = Noted()
    async with RegistrationConfigSource(materializer, rollout=Rollout(max_parallel=1)) as source:
        takers = [Taker(name, lambda: source, Watched()) for name in NAMES[:4]]
        takers[0].trial = 100
        takers[1].bad = frozenset({"second"})
        async with Crowd(takers) as crowd:
            await booted(source, crowd)
            await renew(materializer, "second", source.parts.operator.renew)
            await eventually(lambda: "n00" in source.parts.turns.stored.turns)
            await crowd.stop("n00")
            del crowd.takers["n00"]
            assert await source.evict("n00")
            await eventually(lambda: record(source).halted)
            assert list(record(source).failed) == ["n01"]
            await crowd.stop("n01")
            assert await source.evict("n01")
            assert record(source).halted
            await source.parts.turns.command(commands.resume)
            await eventually(lambda: len(crowd.with_note("second")) == 2)


async def test_a_bake_keeps_a_turn_longer() -> None:
    materializer, watched = Noted(), Watched()
    async with (
        RegistrationConfigSource(materializer, rollout=Rollout(max_parallel=1, bake=0.2)) as source,
        Crowd(Taker(name, lambda: source, watched) for name in NAMES[:3]) as crowd,
    ):
        await booted(source, crowd)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await renew(materializer, "second", source.parts.operator.renew)
        await eventually(lambda: crowd.have("second") and record(source).whole)
        assert loop.time() - began >= 3 * 0.2


@pytest.mark.parametrize("seed", range(2))
async def test_two_servers_on_one_store_give_turns_together(seed: int) -> None:
    random = Random(seed)
    materializer, watched, bus, engine = Noted(), Watched(), MemoryHints(), MemoryStore()

    def server(store):
        return RegistrationConfigSource(
            materializer, store=store, hints=bus, interval=0.2, rollout=Rollout(max_parallel=2)
        )

    async with (
        NotifyingStore(engine, bus) as one,
        NotifyingStore(engine, bus) as other,
        server(one) as a,
        server(other) as b,
    ):
        takers = [
            Taker(name, lambda: random.choice([a, b]), watched, trial=0.05, random=random) for name in NAMES
        ]
        async with Crowd(takers) as crowd:
            await booted(a, crowd)
            for note in ("second", "third"):
                await renew(materializer, note, random.choice([a, b]).parts.operator.renew)
                await eventually(lambda note=note: crowd.have(note))
            assert watched.most["default"] <= 2
            await eventually(lambda: record(a).whole and record(b).whole)
            assert Version.parse(a.generation.text) == record(b).generation


@pytest.mark.parametrize("how", ["rollout all", "at once", "promoted"])
async def test_ro_6_a_server_that_is_behind_what_a_node_has_seen_reads_the_store_before_it_answers(
    how: str,
) -> None:
    materializer, store = Noted(), MemoryStore()

    def server():
        mode = "all" if how == "rollout all" else "rolling"
        hints = LostHints(MemoryHints())
        return RegistrationConfigSource(
            materializer, store=store, hints=hints, interval=3600, rollout=Rollout(mode=mode)
        )

    async with server() as ahead, server() as behind:
        taker = Taker("n00", lambda: ahead, Watched())
        async with Crowd([taker]) as crowd:
            await eventually(lambda: crowd.have("first"))
        first = ahead.generation
        await behind.parts.catch_up()
        materializer.is_at_once = how == "at once"
        await renew(materializer, "second", ahead.parts.operator.renew)
        await eventually(lambda: ahead.generation.number == first.number + 1)
        if how == "promoted":
            await ahead.parts.turns.command(commands.promote)
        second = ahead.generation
        assert behind.generation.text == first.text
        known, turn = second.nodes["n00"].digest, Turn("default", "steady")
        answer = await behind.turn_to("n00", known=known, seen=second.version, turn=turn)
        assert isinstance(answer, Ready)
        assert answer.generation == second.text
        never_made = Version(second.version.epoch, second.number + 7)
        answer = await behind.turn_to("n00", known=known, seen=never_made, turn=turn)
        assert isinstance(answer, Ready), "a number that no server has keeps nobody waiting"


async def test_a_boot_of_a_thousand_costs_turns_a_commit_for_each_generation_at_most() -> None:
    materializer = Noted()
    async with (
        RegistrationConfigSource(materializer) as source,
        Crowd(Taker(f"n{number:04}", lambda: source, Watched()) for number in range(1000)) as crowd,
    ):
        await eventually(lambda: len(crowd.with_note("first")) == 1000, within=120)
        await eventually(lambda: record(source).whole, within=120)
        steps = record(source).steps
    assert steps <= 2 * source.generation.number, "one for its words, and one when all have it"


async def test_a_boot_goes_on_while_the_fleet_of_before_is_halted() -> None:
    materializer = Noted()
    async with (
        RegistrationConfigSource(materializer) as source,
        Crowd(Taker(name, lambda: source, Watched(), bad=("bad",)) for name in NAMES[:3]) as crowd,
    ):
        await booted(source, crowd)
        await renew(materializer, "bad", source.parts.operator.renew)
        await eventually(lambda: record(source).halted)
        new = [Taker(f"new{number:03}", lambda: source, Watched()) for number in range(100)]
        for taker in new:
            await crowd.add(taker)
        await eventually(lambda: all(taker.note == "bad" for taker in new))
        assert record(source).halted
