"""A generation is numbered, frozen, materialized once, and the same bytes after a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_adapter.nodes.registry import Registry
from cfgsync_artifacts import DuplicatePath
from cfgsync_core import (
    BucketSnapshot,
    Condition,
    MaterializationFailed,
    MemoryStore,
    Ready,
    Unavailable,
    Unchanged,
    Version,
)
from tests.adapter.fleets import RandomKeys, ReadyAt, node, one_file_each
from tests.faults import BrokenStore


async def ready(source: RegistrationConfigSource, name: str) -> Ready:
    answer = await source.resolve(name)
    assert isinstance(answer, Ready), answer
    return answer


def number(answer: Ready) -> int:
    assert answer.generation is not None
    return int(answer.generation.rpartition(".")[2])


async def test_inv_18_every_node_of_a_generation_comes_from_one_snapshot() -> None:
    class Slow:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
            time.sleep(0.02)
            return one_file_each(registrations, f"{len(registrations)} {registrations.version.revision}")

    async with RegistrationConfigSource(Slow()) as source:
        seen: dict[str, set[object]] = {}

        async def boot(name: str) -> None:
            await source.register(node(name))
            answer = await ready(source, name)
            content = answer.payload.files[0].content
            assert isinstance(content, str)
            peers, count, _ = content.split()
            assert name in peers.split(",")
            assert len(peers.split(",")) == int(count)
            seen.setdefault(str(answer.generation), set()).add(content)

        for burst in range(8):
            await asyncio.gather(*(boot(f"n{burst}-{i:02}") for i in range(25)))
        assert sum(len(contents) for contents in seen.values()) == len(seen)


async def test_a_restart_serves_the_same_bytes_from_a_materializer_that_draws_random_keys() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(RandomKeys(), store=store) as source:
        await source.register(node("a"))
        await source.register(node("b"))
        before = await ready(source, "a"), await ready(source, "b")
    async with RegistrationConfigSource(RandomKeys(), store=store) as source:
        after = await ready(source, "a"), await ready(source, "b")
        assert [r.payload.body for r in before] == [r.payload.body for r in after]
        assert [r.generation for r in before] == [r.generation for r in after]
        assert source.runs == 0


async def test_an_equal_registration_makes_no_revision_and_no_run() -> None:
    async with RegistrationConfigSource(ReadyAt(1)) as source:
        first = await source.register(node("a", port=1))
        before = await ready(source, "a")
        assert await source.register(node("a", port=1)) == first
        await asyncio.sleep(0.3)
        assert source.runs == 1
        assert await ready(source, "a") == before


async def test_equal_artifacts_from_another_source_keep_the_number() -> None:
    class Constant:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
            return MaterializedArtifacts.from_nodes(
                {"a": [ArtifactFile("/x", "1")], "b": [ArtifactFile("/x", "2")]}
            )

    store = MemoryStore()
    async with RegistrationConfigSource(Constant(), store=store) as source:
        await source.register(node("a"))
        first = await ready(source, "a")
        await source.register(node("b"))
        assert number(await ready(source, "b")) == number(first) == 1
    async with RegistrationConfigSource(Constant(), store=store) as source:
        assert number(await ready(source, "b")) == 1
        assert source.runs == 0


async def test_a_new_revision_of_the_program_makes_a_new_generation_of_everybody() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1, "broken"), store=store, revision="1") as source:
        await source.register(node("a"))
        assert (await ready(source, "a")).payload.files[0].content == "a broken"
    async with RegistrationConfigSource(ReadyAt(1, "mended"), store=store, revision="1") as source:
        assert (await ready(source, "a")).payload.files[0].content == "a broken"
    async with RegistrationConfigSource(ReadyAt(1, "mended"), store=store, revision="2") as source:
        await source.settled(5)
        assert (await ready(source, "a")).payload.files[0].content == "a mended"
        assert number(await ready(source, "a")) == 2


async def test_a_new_revision_makes_one_new_generation_even_when_late_nodes_are_frozen_out() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1), store=store, late="freeze") as source:
        await source.register(node("a"))
        await ready(source, "a")
        await source.register(node("late"))
    async with RegistrationConfigSource(ReadyAt(1), store=store, late="freeze", revision="2") as source:
        await source.settled(5)
        assert (await ready(source, "late")).payload.files[0].content == "a,late "


async def test_two_sources_on_one_store_make_one_generation_of_one_source() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(99), store=store) as writer:
        await writer.register(node("a"))
    first = RegistrationConfigSource(RandomKeys(), store=store)
    second = RegistrationConfigSource(RandomKeys(), store=store)
    async with first, second:
        one, other = await asyncio.gather(ready(first, "a"), ready(second, "a"))
        assert one == other


async def test_a_server_whose_claim_was_taken_serves_and_publishes_nothing() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1, "old"), store=store, revision="old") as old:
        await old.register(node("a"))
        await ready(old, "a")
        async with RegistrationConfigSource(ReadyAt(1, "new"), store=store, revision="new") as new:
            await new.settled(5)
            assert number(await ready(new, "a")) == 2
            await old.register(node("b"))
            await asyncio.sleep(0.5)
            assert "another server has claimed" in old.fleet(10, "").reason
            assert (await ready(new, "a")).payload.files[0].content == "a new"


async def test_only_the_current_and_the_previous_generation_are_kept() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(RandomKeys(), store=store) as source:
        for i in range(6):
            await source.register(node(f"n{i}"))
            await ready(source, f"n{i}")
        blobs = [entry async for entry in store.export("generations") if entry.key.startswith("blob/")]
        # per generation one map and one payload, equal for every node; the empty shared part is the same for both
        assert len(blobs) == 2 * (1 + 1) + 1


async def test_a_shared_file_is_stored_once_and_is_one_object_for_every_node_also_after_a_restart() -> None:
    class Sharing:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            return one_file_each(registrations).with_shared([ArtifactFile("/shared.txt", "s" * 2**20)])

    store = MemoryStore()
    for _ in range(2):
        async with RegistrationConfigSource(Sharing(), store=store) as source:
            for name in ("a", "b"):
                await source.register(node(name))
            first, second = await ready(source, "a"), await ready(source, "b")
            assert first.payload.shared is second.payload.shared
            assert first.payload.chunks[1] is second.payload.chunks[1]
    large = [entry async for entry in store.export("generations") if len(entry.value) > 2**20]
    assert len(large) == 1


async def test_runs_are_coalesced_while_registrations_pour_in() -> None:
    materializer = ReadyAt(300)
    async with RegistrationConfigSource(materializer) as source:
        began = time.monotonic()

        async def boot(index: int) -> Ready:
            await asyncio.sleep(index * 0.003)
            await source.register(node(f"n{index:03}"))
            answer = await source.resolve(f"n{index:03}", wait=20)
            assert isinstance(answer, Ready)
            return answer

        answers = await asyncio.gather(*(boot(i) for i in range(300)))
        assert len({answer.generation for answer in answers}) == 1
        assert source.runs <= 2 + 10 * (time.monotonic() - began)


async def test_registrations_are_applied_one_by_one_and_never_read_again() -> None:
    reads = 0

    class Counts(MemoryStore):
        async def snapshot(self, bucket: str, known: Version | None = None) -> BucketSnapshot | Unchanged:
            nonlocal reads
            reads += bucket == "registrations"
            return await super().snapshot(bucket, known)

    async with RegistrationConfigSource(ReadyAt(100), store=Counts()) as source:
        for i in range(100):
            await source.register(node(f"n{i:02}"))
        assert isinstance(await source.resolve("n99", wait=10), Ready)
        assert source.fleet(1, "").registered == 100
    assert reads == 1


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (None, "materialize_snapshot returned NoneType, expected MaterializedArtifacts or NotReady"),
        (
            MaterializedArtifacts.from_nodes({"a": [ArtifactFile("/x", "1")]}).with_shared(
                [ArtifactFile("/x", "2")]
            ),
            "duplicate artifact path `/x`: node a has it, and a shared file, too",
        ),
        (
            MaterializedArtifacts.from_nodes({"a": [ArtifactFile("/x", "1" * 17_000_000)]}),
            "the content for node a is 17000000 bytes, a node takes 16777216",
        ),
    ],
)
async def test_a_result_that_cannot_be_served_is_a_failed_run(result: object, sentence: str) -> None:
    class Wrong:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            return result  # type: ignore[return-value]

    async with RegistrationConfigSource(Wrong()) as source:
        await source.register(node("a"))
        with pytest.raises(MaterializationFailed) as failure:
            await source.resolve("a")
        assert failure.value.cause == sentence
        assert sentence in source.fleet(10, "").reason


async def test_system_exit_in_a_materializer_is_a_failed_run_and_not_the_end_of_the_server() -> None:
    class Quits:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            raise SystemExit(3)

    async with RegistrationConfigSource(Quits()) as source:
        await source.register(node("a"))
        with pytest.raises(MaterializationFailed, match=r"SystemExit in test_generation\.py"):
            await source.resolve("a")


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_materializer_that_cancels_itself_has_failed_and_runs_again(is_async: bool) -> None:
    class Cancels:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            if "b" in registrations:
                return one_file_each(registrations)
            raise asyncio.CancelledError

    class CancelsLater:
        async def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            await asyncio.sleep(0)
            return Cancels().materialize_snapshot(registrations)

    async with RegistrationConfigSource(CancelsLater() if is_async else Cancels()) as source:
        await source.register(node("a"))
        with pytest.raises(MaterializationFailed, match=r"CancelledError in test_generation\.py") as failure:
            await source.resolve("a", wait=10)
        await source.register(node("b"))
        assert isinstance(await source.resolve("b", wait=10), Ready)
    assert failure.value.at.startswith("CancelledError in ")


async def test_a_run_past_its_deadline_has_failed_and_no_second_one_starts_beside_it() -> None:
    active: list[int] = []

    class Hangs:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            active.append(1)
            time.sleep(1.5)
            return one_file_each(registrations)

    async with RegistrationConfigSource(Hangs(), run_timeout=0.2) as source:
        await source.register(node("a"))
        with pytest.raises(MaterializationFailed, match=r"no answer within 0.2 s"):
            await source.resolve("a")
        await source.register(node("b"))
        await asyncio.sleep(0.8)
        assert len(active) == 1


async def test_a_failed_run_is_tried_again_by_itself() -> None:
    class SecondTime:
        runs = 0

        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            self.runs += 1
            if self.runs == 1:
                raise OSError("the network is away")
            return one_file_each(registrations)

    async with RegistrationConfigSource(SecondTime()) as source:
        await source.register(node("a"))
        with pytest.raises(MaterializationFailed):
            await source.resolve("a")
        await asyncio.sleep(1.3)
        assert isinstance(await source.resolve("a"), Ready)


@pytest.mark.timed
async def test_not_ready_is_asked_again_after_its_retry_after_without_any_registration() -> None:
    class InTime:
        ready_at = time.monotonic() + 0.6

        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            left = self.ready_at - time.monotonic()
            return NotReady("soon", retry_after=left) if left > 0 else one_file_each(registrations)

    async with RegistrationConfigSource(InTime()) as source:
        await source.register(node("a"))
        began = time.monotonic()
        assert isinstance(await source.resolve("a", wait=10), Ready)
        assert time.monotonic() - began < 1.5


async def test_an_async_materializer_runs_on_the_event_loop_and_one_at_a_time() -> None:
    running = 0

    class Async:
        async def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0.05)
            running -= 1
            return one_file_each(registrations)

    async with RegistrationConfigSource(Async()) as source:
        await asyncio.gather(*(source.register(node(f"n{i}")) for i in range(5)))
        assert isinstance(await source.resolve("n4"), Ready)


async def test_conditions_reach_the_fleet_status() -> None:
    class Says:
        def materialize_snapshot(
            self, registrations: RegistrationSnapshot
        ) -> Awaitable[MaterializationResult] | NotReady:
            return NotReady("one to come", (Condition("quorum", 1, 2, ("b",)),))

    async with RegistrationConfigSource(Says()) as source:
        await source.register(node("a"))
        await source.resolve("a")
        fleet = source.fleet(10, "")
        assert fleet.reason == "quorum 1 of 2, missing b (never seen); the materializer says: one to come"
        assert fleet.conditions[0].missing == ("b",)
        assert fleet.nodes[0].reason == f"registered; {fleet.reason}"


class Keeps:
    """A sink that fails `fails` times, then keeps what it is given."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.kept: list[MaterializedArtifacts] = []
        self.got = asyncio.Event()

    async def persist(self, artifacts: MaterializedArtifacts) -> None:
        if self.fails:
            self.fails -= 1
            raise OSError("no space left on device")
        self.kept.append(artifacts)
        self.got.set()


async def test_the_sink_outside_gets_exactly_what_is_served_once_for_each_generation() -> None:
    store, sink = MemoryStore(), Keeps()
    async with RegistrationConfigSource(RandomKeys(), store=store, sink=sink) as source:
        await source.register(node("a"))
        answer = await ready(source, "a")
        await asyncio.wait_for(sink.got.wait(), 5)
        assert sink.kept[-1].nodes["a"] == ArtifactSet(answer.payload.files)
        await asyncio.sleep(0.05)
    async with RegistrationConfigSource(RandomKeys(), store=store, sink=sink) as source:
        await ready(source, "a")
        await asyncio.sleep(0.1)
        assert len(sink.kept) == 1


async def test_the_sink_outside_gets_after_a_restart_what_a_crash_kept_from_it() -> None:
    store, sink = MemoryStore(), Keeps()
    async with RegistrationConfigSource(RandomKeys(), store=store) as crashed:
        await crashed.register(node("a"))
        before = await ready(crashed, "a")
    async with RegistrationConfigSource(RandomKeys(), store=store, sink=sink):
        await asyncio.wait_for(sink.got.wait(), 5)
        assert sink.kept[0].nodes["a"] == ArtifactSet(before.payload.files)


async def test_a_sink_outside_that_fails_is_told_in_the_status_and_tried_again() -> None:
    sink = Keeps(fails=1)
    async with RegistrationConfigSource(RandomKeys(), sink=sink) as source:
        await source.register(node("a"))
        await ready(source, "a")
        await asyncio.sleep(0.1)
        assert "the sink failed: OSError in test_generation.py" in source.fleet(10, "").reason
        await asyncio.wait_for(sink.got.wait(), 5)
        await asyncio.sleep(0.05)
        assert source.fleet(10, "").reason == ""


async def test_a_store_that_does_not_answer_is_unavailable_and_never_an_empty_answer_and_heals_by_itself() -> (
    None
):
    store = BrokenStore(MemoryStore(), after=6)  # every bucket is read, and then it is away
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        with pytest.raises(Unavailable, match="broken on purpose"):
            await source.register(node("a"))
        store.break_after(1)
        await source.register(node("a"))
        with pytest.raises(Unavailable, match="broken on purpose"):
            await source.resolve("a")
        assert "broken on purpose" in source.fleet(10, "").reason
        store.mend()
        await asyncio.sleep(1.3)
        assert isinstance(await source.resolve("a"), Ready)


async def test_a_fault_while_publishing_is_a_failed_run_and_not_the_end_of_all_runs() -> None:
    store = BrokenStore(MemoryStore(), after=7, error=lambda: ValueError("not foreseen"))
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        await source.register(node("a"))
        with pytest.raises(MaterializationFailed, match=r"ValueError in faults\.py"):
            await source.resolve("a")
        store.mend()
        await asyncio.sleep(1.3)
        assert isinstance(await source.resolve("a"), Ready)


async def test_a_snapshot_knows_what_changed_since_the_one_before_and_compares_with_any_other() -> None:
    registry = Registry(MemoryStore())
    await registry.open()
    empty = registry.snapshot()
    await registry.register(node("a"))
    await registry.register(node("b"))
    first = registry.snapshot()
    await registry.register(node("b", ip="10.0.0.2"))
    await registry.register(node("c"))
    second = registry.snapshot()
    again = registry.snapshot()
    for earlier in (empty, first, second):
        changed, gone = second.changes_since(earlier)
        assert {r.identifier for r in changed} == {
            n for n in second.identifiers if second.get(n) != earlier.get(n)
        }
        assert gone == []
    assert again.changes_since(second) == ([], [])
    assert first.changes_since(second)[1] == ["c"]


def test_a_path_that_one_node_has_twice_is_refused_with_the_name_of_the_node() -> None:
    twice = [ArtifactFile("/x", "1"), ArtifactFile("/x", "2")]
    with pytest.raises(DuplicatePath, match="`/x`: two of the files of node b have it"):
        MaterializedArtifacts.from_nodes({"b": twice})
    with pytest.raises(DuplicatePath, match="`/x`: two of the shared files have it"):
        MaterializedArtifacts({}).with_shared(twice)
