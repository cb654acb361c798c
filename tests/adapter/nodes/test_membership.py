"""Who leaves: evicted, or not heard of for `ttl` despite a promise; each a commit like any other, and a quorum counts only
the living."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from cfgsync_adapter import MaterializationResult, Quorum, RegistrationConfigSource, RegistrationSnapshot
from cfgsync_adapter.nodes import membership
from cfgsync_adapter.nodes.last_seen import LastSeen
from cfgsync_core import Acknowledgement, Condition, Entry, MemoryStore, Missing, NotReady, Ready, Unavailable
from cfgsync_core.wire import describe
from tests.adapter.fleets import RandomKeys, ReadyAt, node, one_file_each
from tests.faults import BrokenStore

TTL = 60.0


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def seen(self) -> LastSeen:
        return LastSeen(self, lambda: 1_700_000_000.0 + self.now)


async def promising(source: RegistrationConfigSource, *names: str, seconds: int = 20) -> None:
    """These nodes register, and promise to be heard of again."""
    for name in names:
        await source.register(node(name))
        await source.promise(name, seconds)


async def expire(source: RegistrationConfigSource) -> Sequence[str]:
    """Look now, as its own task does in time."""
    return await source.parts.membership.expire()


async def until_settled(source: RegistrationConfigSource) -> None:
    """Until the run that covers everything so far has finished."""
    for _ in range(500):
        verdict = source.parts.runs.verdict
        if verdict is not None and verdict.source.covers(source.parts.runs.source):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no run came")


async def test_a_node_that_is_evicted_must_register_again() -> None:
    async with RegistrationConfigSource(ReadyAt(1)) as source:
        await source.register(node("a"))
        await source.register(node("b"))
        assert isinstance(await source.resolve("b"), Ready)
        assert await source.evict("b")
        gone = await source.resolve("b")
        assert isinstance(gone, NotReady)
        assert not gone.registered
        assert source.node("b").reason.startswith("b is not registered: evicted 0 s ago, last seen ")
        await source.register(node("b"))
        assert isinstance(await source.resolve("b"), Ready)
        assert "b" not in source.parts.membership.left


async def test_evicting_nobody_is_false_and_commits_nothing() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        await source.register(node("a"))
        assert not await source.evict("b")
        assert await source.evict("a")
        assert not await source.evict("a")
        assert (await store.version("registrations")).revision == 2


async def test_an_eviction_is_a_commit_like_any_other_and_makes_the_next_generation() -> None:
    async with RegistrationConfigSource(ReadyAt(1)) as source:
        for name in "abc":
            await source.register(node(name))
        before = await source.resolve("a")
        await source.evict("c")
        await until_settled(source)
        after = await source.resolve("a")
        assert isinstance(before, Ready)
        assert isinstance(after, Ready)
        assert [file.content for file in after.payload.files] == ["a,b "]
        assert before.generation != after.generation
        assert "c" not in (source.generation.nodes if source.generation else ())


async def test_a_held_question_of_a_node_that_is_evicted_is_answered_at_once() -> None:
    for late in ("follow", "freeze"):
        async with RegistrationConfigSource(ReadyAt(1), late=late) as source:  # type: ignore[arg-type]
            await source.register(node("a"))
            await source.register(node("b"))
            answer = await source.resolve("a")
            assert isinstance(answer, Ready)
            held = asyncio.create_task(source.resolve("a", known=answer.payload.digest, wait=30))
            await asyncio.sleep(0.01)
            await source.evict("a")
            gone = await asyncio.wait_for(held, 1)
            assert isinstance(gone, NotReady)
            assert not gone.registered


async def test_the_last_node_that_leaves_is_told_too_and_the_fleet_says_that_nobody_is_there() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        await source.register(node("a"))
        held = asyncio.create_task(source.resolve("a", wait=30))
        await asyncio.sleep(0.01)
        await source.evict("a")
        gone = await asyncio.wait_for(held, 1)
        assert isinstance(gone, NotReady)
        assert not gone.registered
        fleet = source.fleet(10, "")
        assert (fleet.registered, fleet.reason) == (0, "no node is registered any more")


async def test_a_quorum_counts_only_the_living() -> None:
    async with RegistrationConfigSource(ReadyAt(3)) as source:
        await source.register(node("a"))
        await source.register(node("b"))
        await source.evict("a")
        await source.register(node("c"))
        answer = await source.resolve("c")
        assert isinstance(answer, NotReady)
        assert answer.reason == "waiting for 3 nodes, have 2"


async def test_what_was_acknowledged_under_a_name_does_not_outlive_the_node() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        await source.register(node("a"))
        answer = await source.resolve("a")
        assert isinstance(answer, Ready)
        said = Acknowledgement("a", answer.generation or "", answer.payload.digest, "applied")
        await source.acknowledge(said)
        await source.evict("a")
        assert await store.get("acknowledgements", "a") is None
        await source.register(node("a"))
        assert isinstance(await source.resolve("a"), Ready)
        assert source.node("a").applied is None
        assert not source.fleet(10, "").converged


async def test_what_a_crash_kept_from_being_forgotten_is_forgotten_at_the_next_start() -> None:
    store = MemoryStore()
    await store.commit("acknowledgements", {"ghost": b'{"digest":"sha256-0"}'})
    async with RegistrationConfigSource(ReadyAt(1), store=store):
        assert await store.get("acknowledgements", "ghost") is None


async def test_who_is_not_heard_of_for_the_ttl_leaves_and_who_asks_stays() -> None:
    clock = Clock()
    async with RegistrationConfigSource(ReadyAt(1), ttl=TTL, seen=clock.seen()) as source:
        await promising(source, "asks", "registers", "acknowledges", "silent")
        answer = await source.resolve("acknowledges")
        assert isinstance(answer, Ready)
        clock.now += TTL - 1
        await source.resolve("asks")
        await source.register(node("registers"))
        await source.acknowledge(
            Acknowledgement("acknowledges", answer.generation or "", answer.payload.digest, "applied")
        )
        assert not await expire(source), "nobody before the time is over"
        clock.now += 1
        assert await expire(source) == ["silent"]
        assert [n.identifier for n in source.fleet(10, "").nodes] == ["acknowledges", "asks", "registers"]
        assert source.node("silent").reason == (
            "silent is not registered: last seen 60 s ago, and --ttl is 60 s"
        )
        clock.now += TTL
        assert set(await expire(source)) == {"asks", "registers", "acknowledges"}


async def test_who_expire_together_leave_in_one_commit() -> None:
    clock, store = Clock(), MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1), store=store, ttl=TTL, seen=clock.seen()) as source:
        await promising(source, *(f"n{n}" for n in range(50)))
        clock.now += TTL
        assert len(await expire(source)) == 50
        assert (await store.version("registrations")).revision == 51


async def test_a_held_question_refreshes_as_long_as_it_is_held() -> None:
    clock = Clock()
    async with RegistrationConfigSource(ReadyAt(2), ttl=TTL, seen=clock.seen()) as source:
        await promising(source, "held")
        held = asyncio.create_task(source.resolve("held", wait=30))
        await asyncio.sleep(0.01)
        clock.now += TTL * 3
        assert not await expire(source)
        clock.now += TTL - 1
        held.cancel()
        await asyncio.sleep(0)
        assert not await expire(source), "it was heard of at the last look"
        clock.now += 1
        assert await expire(source) == ["held"]


async def test_a_restart_gives_everybody_a_whole_ttl() -> None:
    store, clock = MemoryStore(), Clock()
    async with RegistrationConfigSource(ReadyAt(1), store=store, ttl=TTL, seen=clock.seen()) as source:
        await promising(source, "a", "b")
        clock.now += TTL - 1
    async with RegistrationConfigSource(ReadyAt(1), store=store, ttl=TTL, seen=clock.seen()) as source:
        assert source.node("a").last_seen is None
        clock.now += TTL - 1
        assert not await expire(source)
        await source.resolve("a")
        clock.now += 1
        assert await expire(source) == ["b"]
        clock.now += TTL - 1
        assert await expire(source) == ["a"]


async def test_without_a_ttl_nobody_expires() -> None:
    clock = Clock()
    async with RegistrationConfigSource(ReadyAt(1), seen=clock.seen()) as source:
        await promising(source, "a")
        clock.now += 1e9
        assert not await expire(source)


async def test_the_ttl_runs_by_itself() -> None:
    async with RegistrationConfigSource(ReadyAt(1), ttl=0.2) as source:
        await promising(source, "a")
        held = asyncio.create_task(source.resolve("a", known="", wait=0))
        await held
        for _ in range(300):
            if not source.fleet(10, "").registered:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it never expired")


async def test_a_store_that_is_away_keeps_everybody_and_the_next_look_takes_them_out() -> None:
    clock, store = Clock(), BrokenStore(MemoryStore(), after=100)
    async with RegistrationConfigSource(ReadyAt(1), store=store, ttl=TTL, seen=clock.seen()) as source:
        await promising(source, "a")
        await until_settled(source)
        clock.now += TTL
        store.break_after(0)
        with pytest.raises(Unavailable):
            await expire(source)
        assert source.fleet(10, "").registered == 1
        store.mend()
        assert await expire(source) == ["a"]


@pytest.mark.parametrize("error", [Unavailable("broken on purpose"), KeyError("a fault of ours")])
async def test_whatever_keeps_nodes_from_leaving_they_leave_afterwards(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr(membership, "LONGEST_SLACK", 0.01)
    store = BrokenStore(MemoryStore(), after=100, error=lambda: error)
    async with RegistrationConfigSource(ReadyAt(1), store=store, ttl=0.2) as source, asyncio.timeout(30):
        await promising(source, "a")
        await until_settled(source)
        store.break_after(0)
        while "expired nodes could not be removed" not in caplog.text:
            await asyncio.sleep(0.01)
        store.mend()
        while source.fleet(10, "").registered:
            await asyncio.sleep(0.01)


async def test_what_belongs_to_a_name_is_freed_before_its_registration_goes() -> None:
    store = MemoryStore()
    freed: list[tuple[Sequence[str], Entry | None]] = []

    async def free(names: Sequence[str]) -> None:
        freed.append((names, await store.get("registrations", names[0])))

    async with RegistrationConfigSource(ReadyAt(1), store=store, before_leaving=free) as source:
        await source.register(node("a"))
        await source.evict("a")
        assert [names for names, _ in freed] == [["a"]]
        assert freed[0][1] is not None


async def test_nobody_leaves_when_what_belongs_to_them_cannot_be_freed() -> None:
    async def cannot(names: Sequence[str]) -> None:
        raise Unavailable("away")

    async with RegistrationConfigSource(ReadyAt(1), before_leaving=cannot) as source:
        await source.register(node("a"))
        with pytest.raises(Unavailable):
            await source.evict("a")
        assert isinstance(await source.resolve("a"), Ready)


async def test_who_registers_while_it_is_being_evicted_is_registered_in_the_end() -> None:
    """A 202 is never for a registration that is then deleted, also when its words are equal."""

    class Slow(MemoryStore):
        async def commit(self, bucket: str, *arguments: object, **more: object):  # type: ignore[no-untyped-def]
            version = await super().commit(bucket, *arguments, **more)  # type: ignore[arg-type]
            await asyncio.sleep(0.02)
            return version

    store = Slow()
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        await source.register(node("a"))
        evicting = asyncio.create_task(source.evict("a"))
        await asyncio.sleep(0.01)
        await source.register(node("a"))
        assert await evicting
        assert await store.get("registrations", "a") is not None
        assert source.fleet(10, "").registered == 1


class Anybody:
    """Ready with whoever is there."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        return one_file_each(registrations)


async def test_who_is_missing_is_named_with_when_it_was_seen() -> None:
    clock = Clock()
    expected = [f"node-{n}" for n in range(1, 6)]
    async with RegistrationConfigSource(Quorum(Anybody(), expected=expected), seen=clock.seen()) as source:
        for name in ("node-1", "node-2", "node-3", "node-5"):
            await source.register(node(name))
        await source.evict("node-5")
        clock.now += 40
        await until_settled(source)
        words = "quorum 3 of 5, missing node-4 (never seen) and node-5 (last seen 40 s ago)"
        assert source.fleet(10, "").reason == words
        told = source.node("node-1")
        assert told.reason == f"registered; {words}"
        assert [(m.identifier, m.last_seen) for m in told.missing] == [
            ("node-4", None),
            ("node-5", "2023-11-14T22:30:00Z"),
        ]
        assert told.conditions[0].need == 5


async def test_after_a_restart_nobody_is_said_to_have_never_been_seen() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        await source.register(node("a"))
        await source.register(node("b"))
        await source.evict("b")
    async with RegistrationConfigSource(
        Quorum(Anybody(), expected=["a", "b"]), store=store, revision="2"
    ) as source:
        await until_settled(source)
        assert source.fleet(10, "").reason == "quorum 1 of 2, missing b (not seen since this server started)"


async def test_many_missing_are_counted_after_the_first_and_all_there_as_data() -> None:
    expected = [f"n{n:03}" for n in range(100)]
    async with RegistrationConfigSource(Quorum(Anybody(), expected=expected)) as source:
        await source.register(node("n000"))
        await until_settled(source)
        fleet = source.fleet(10, "")
        assert fleet.reason.endswith("n008 (never seen) and 91 more")
        assert len(fleet.missing) == 99
        assert fleet.nodes[0].missing == (), "a page does not repeat them for each node"
        assert len(source.node("n000").missing) == 99


async def test_names_that_a_materializer_waits_for_cannot_move_a_terminals_cursor() -> None:
    class Waits:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            conditions = (Condition("quorum", 1, 2, ("\x1b[2J\x9b1m",)),)
            return NotReady(describe("", conditions), conditions)

    async with RegistrationConfigSource(Waits()) as source:
        await source.register(node("a"))
        await until_settled(source)
        assert source.fleet(10, "").reason.isprintable()
        assert source.node("a").reason.isprintable()


async def test_a_failed_run_is_told_with_the_words_of_its_error_if_they_may_be_exposed() -> None:
    class Fails:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            raise RuntimeError("b is drunk")

    async with RegistrationConfigSource(Fails(), expose_errors=True) as source:
        await source.register(node("a"))
        await until_settled(source)
        told = source.node("a")
        assert told.reason == "registered; failed to materialize config snapshot: b is drunk"
        assert (told.state, told.because) == ("failed", "b is drunk")


async def test_a_node_that_left_a_frozen_fleet_has_its_files_again_only_with_the_registration_it_had() -> (
    None
):
    async with RegistrationConfigSource(RandomKeys(), late="freeze") as source:
        await source.register(node("a"))
        await source.register(node("b"))
        files = await source.resolve("b")
        assert isinstance(files, Ready)
        await source.evict("b")
        await source.register(node("b", ip="10.0.0.9"))
        assert isinstance(await source.resolve("b"), Missing)
        await source.register(node("b"))
        assert await source.resolve("b") == files
