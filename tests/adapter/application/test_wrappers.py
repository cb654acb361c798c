"""The wrappers: an equal snapshot is never materialized twice, a sink has it first, a quorum names who is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    CachedSnapshotMaterializer,
    DirectorySink,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    PersistingSnapshotMaterializer,
    Quorum,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_adapter.nodes.registry import Registry
from cfgsync_core import InvalidRegistration, MemoryStore, MetadataMismatch, NodeRegistration, Ready
from tests.adapter.fleets import RandomKeys, ReadyAt, node, one_file_each


def snapshot(
    *names: str,
    first_at: float | None = None,
    changed_at: float | None = None,
    unpublished_at: float | None = None,
) -> RegistrationSnapshot:
    return RegistrationSnapshot(
        [node(n) for n in names], first_at=first_at, changed_at=changed_at, unpublished_at=unpublished_at
    )


class AsyncRandom:
    async def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        await asyncio.sleep(0)
        return RandomKeys().materialize_snapshot(registrations)


class Kept:
    def __init__(self, fails: int = 0) -> None:
        self.kept: list[MaterializedArtifacts] = []
        self.fails = fails

    def persist(self, artifacts: MaterializedArtifacts) -> None:
        if self.fails:
            self.fails -= 1
            raise OSError("disk full")
        self.kept.append(artifacts)


def test_a_snapshot_is_in_identifier_order_whatever_the_order_of_registration() -> None:
    made = snapshot("node-10", "node-2", "node-1")
    assert [r.identifier for r in made] == ["node-1", "node-10", "node-2"]
    assert len(made) == 3
    assert "node-2" in made
    assert made.get("node-3") is None
    assert made == snapshot("node-1", "node-2", "node-10")
    assert made != snapshot("node-1", "node-2")


def test_a_cached_materializer_runs_once_for_equal_snapshots() -> None:
    cached = CachedSnapshotMaterializer(RandomKeys())
    first = cached.materialize_snapshot(snapshot("a", "b"))
    assert cached.materialize_snapshot(snapshot("b", "a")) is first
    assert cached.materialize_snapshot(snapshot("a")) is not first


def test_a_cached_materializer_asks_again_after_not_ready() -> None:
    inner = ReadyAt(2)
    cached = CachedSnapshotMaterializer(inner)
    assert isinstance(cached.materialize_snapshot(snapshot("a")), NotReady)
    inner.count = 1
    assert isinstance(cached.materialize_snapshot(snapshot("a")), MaterializedArtifacts)
    assert len(inner.seen) == 2


async def test_the_wrappers_take_an_async_materializer_too() -> None:
    sink = Kept()
    both = CachedSnapshotMaterializer(PersistingSnapshotMaterializer(AsyncRandom(), sink))
    answer = both.materialize_snapshot(snapshot("a"))
    assert isinstance(answer, Awaitable)
    first = await answer
    assert both.materialize_snapshot(snapshot("a")) is first
    assert sink.kept == [first]


def test_a_persisting_materializer_gives_each_distinct_consecutive_ready_to_the_sink_once() -> None:
    sink = Kept()
    persisting = PersistingSnapshotMaterializer(ReadyAt(1), sink)
    for names in (["a"], ["a"], ["a", "b"], ["a"]):
        persisting.materialize_snapshot(snapshot(*names))
    assert [len(artifacts) for artifacts in sink.kept] == [1, 2, 1]


def test_a_persisting_materializer_gives_nothing_for_not_ready() -> None:
    sink = Kept()
    PersistingSnapshotMaterializer(ReadyAt(2), sink).materialize_snapshot(snapshot("a"))
    assert sink.kept == []


def test_a_sink_that_fails_is_tried_again_at_the_next_run() -> None:
    sink = Kept(fails=1)
    persisting = PersistingSnapshotMaterializer(ReadyAt(1), sink)
    with pytest.raises(OSError, match="disk full"):
        persisting.materialize_snapshot(snapshot("a"))
    persisting.materialize_snapshot(snapshot("a"))
    assert len(sink.kept) == 1


async def test_a_directory_sink_holds_whole_what_the_run_made(tmp_path: Path) -> None:
    class WithShared:
        def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
            return one_file_each(registrations).with_shared(
                [ArtifactFile("/etc/cluster.yaml", "x: 1\n", "0600")]
            )

    persisting = PersistingSnapshotMaterializer(WithShared(), DirectorySink(tmp_path / "kept"))
    async with RegistrationConfigSource(persisting) as source:
        await source.register(node("b"))
        await source.register(node("a"))
        assert isinstance(await source.resolve("a"), Ready)
    current = tmp_path / "kept" / "current"
    assert (current / "index.txt").read_text() == "1\ta\n2\tb\n"
    assert (current / "nodes" / "2" / "peers").read_text() == "a,b "
    assert (current / "shared" / "etc" / "cluster.yaml").stat().st_mode & 0o777 == 0o600


def test_the_revision_of_the_inner_materializer_shows_through_every_wrapper() -> None:
    inner = ReadyAt(1)
    inner.revision = "v7"  # type: ignore[attr-defined]
    wrapped = CachedSnapshotMaterializer(PersistingSnapshotMaterializer(Quorum(inner, at_least=1), Kept()))
    assert wrapped.revision == "v7"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(quorum: Quorum, registrations: RegistrationSnapshot) -> NotReady | None:
    """The quorum's NotReady, None when it let the inner materializer decide."""
    answer = quorum.materialize_snapshot(registrations)
    assert not isinstance(answer, Awaitable)
    return answer if isinstance(answer, NotReady) else None


def test_a_quorum_of_names_says_who_is_missing() -> None:
    quorum = Quorum(ReadyAt(1), expected=["a", "b", "c"])
    waiting = asked(quorum, snapshot("a", "stranger"))
    assert waiting is not None
    assert waiting.reason == "1 of 3 nodes, missing b, c"
    condition = waiting.conditions[0]
    assert (condition.name, condition.have, condition.need, condition.missing) == ("quorum", 1, 3, ("b", "c"))
    assert asked(quorum, snapshot("a", "b", "c")) is None


def test_a_quorum_of_a_count_is_ready_at_the_count() -> None:
    quorum = Quorum(ReadyAt(1), at_least=2)
    waiting = asked(quorum, snapshot("a"))
    assert waiting is not None
    assert waiting.reason == "1 of 2 nodes"
    assert asked(quorum, snapshot("a", "b")) is None


def test_a_quorum_settles_exactly_after_the_last_change() -> None:
    clock = Clock()
    quorum = Quorum(ReadyAt(1), at_least=2, settle=3, clock=clock)
    clock.now = 101.0
    waiting = asked(quorum, snapshot("a", "b", first_at=90, changed_at=100))
    assert waiting is not None
    assert waiting.retry_after == pytest.approx(2)
    clock.now = 103.0
    assert asked(quorum, snapshot("a", "b", first_at=90, changed_at=100)) is None


def test_a_quorum_at_its_deadline_is_ready_with_enough_and_names_the_missing_with_fewer() -> None:
    clock = Clock()
    quorum = Quorum(ReadyAt(1), expected=["a", "b", "c"], at_least=2, deadline=60, clock=clock)
    clock.now = 130.0
    early = asked(quorum, snapshot("a", "b", first_at=100, changed_at=100))
    assert early is not None
    assert early.retry_after == pytest.approx(30)
    clock.now = 160.0
    assert asked(quorum, snapshot("a", "b", first_at=100, changed_at=100)) is None
    too_few = asked(quorum, snapshot("a", first_at=100, changed_at=100))
    assert too_few is not None
    assert "missing b, c" in too_few.reason
    assert "the deadline of 60 s is over" in too_few.reason


def test_settling_ends_after_its_longest_time_although_the_changes_go_on() -> None:
    clock = Clock()
    quorum = Quorum(ReadyAt(1), at_least=1, settle=2, clock=clock)
    for clock.now in (101.0, 104.0, 107.5):
        waiting = asked(quorum, snapshot("a", first_at=50, changed_at=clock.now - 0.1, unpublished_at=100))
        assert waiting is not None
    assert waiting.retry_after == pytest.approx(0.5), "four times settle, after the first change"
    clock.now = 108.0
    assert asked(quorum, snapshot("a", first_at=50, changed_at=107.9, unpublished_at=100)) is None
    shorter = Quorum(ReadyAt(1), at_least=1, settle=2, settle_at_most=3, clock=clock)
    clock.now = 103.0
    assert asked(shorter, snapshot("a", first_at=50, changed_at=102.9, unpublished_at=100)) is None


def test_changes_settle_after_the_deadline_too_and_the_deadline_ends_the_settling_of_earlier_ones() -> None:
    clock = Clock()
    quorum = Quorum(ReadyAt(1), at_least=1, settle=5, deadline=10, clock=clock)
    clock.now = 110.0
    assert asked(quorum, snapshot("a", first_at=100, changed_at=109, unpublished_at=100)) is None
    clock.now = 121.0
    waiting = asked(quorum, snapshot("a", "b", first_at=100, changed_at=120, unpublished_at=120))
    assert waiting is not None
    assert (waiting.retry_after, waiting.reason) == (pytest.approx(4), "2 of 1 node; settling for 5 s")
    clock.now = 125.0
    assert asked(quorum, snapshot("a", "b", first_at=100, changed_at=120, unpublished_at=120)) is None


def test_a_complete_fleet_boots_at_once_and_its_later_changes_settle() -> None:
    clock = Clock()
    quorum = Quorum(ReadyAt(1), expected=["a", "b"], settle=5, clock=clock)
    assert asked(quorum, snapshot("a", "b", first_at=90, changed_at=100, unpublished_at=90)) is None
    assert asked(quorum, snapshot("a", "b", first_at=90, changed_at=100, unpublished_at=99)) is not None
    without = Quorum(ReadyAt(1), expected=["a", "b"], clock=clock)
    assert asked(without, snapshot("a", "b", first_at=90, changed_at=100, unpublished_at=99)) is None


async def test_one_node_that_flaps_delays_the_others_and_does_not_stop_them() -> None:
    async with RegistrationConfigSource(Quorum(ReadyAt(1), at_least=1, settle=0.3)) as source:
        await source.register(node("a"))
        assert isinstance(await source.resolve("a", wait=5), Ready)
        before = source.generation
        assert before is not None

        async def flap() -> None:
            for turn in range(1_000):
                await source.register(node("flaps", turn=turn))
                await asyncio.sleep(0.05)

        flapping = asyncio.create_task(flap())
        await asyncio.sleep(0.01)
        await source.register(node("new"))
        began = asyncio.get_running_loop().time()
        assert isinstance(await source.resolve("new", wait=10), Ready)
        took = asyncio.get_running_loop().time() - began
        flapping.cancel()
        assert source.generation is not None
        assert source.generation.number - before.number == 1, "the changes were gathered"
        assert 0.3 < took < 5


async def test_a_change_during_a_run_waits_from_its_own_time_and_not_from_the_first() -> None:
    registry = Registry(MemoryStore(), clock=(clock := Clock()))
    await registry.open()
    await registry.register(node("a"))
    assert registry.snapshot().unpublished_at == 100
    ran = registry.version
    clock.now = 105.0
    await registry.register(node("b"))
    registry.published(ran)
    clock.now = 107.0
    await registry.register(node("c"))
    assert registry.snapshot().unpublished_at == 105
    registry.published(ran)
    assert registry.snapshot().unpublished_at == 105, "an older generation changes nothing"
    registry.published(registry.version)
    assert registry.snapshot().unpublished_at is None


async def test_a_settling_quorum_behind_a_source_is_not_a_poll() -> None:
    materializer = Quorum(ReadyAt(1), at_least=1, settle=0.5)
    async with RegistrationConfigSource(materializer) as source:
        await source.register(node("a"))
        await asyncio.sleep(0.2)
        await source.register(node("b"))
        answer = await source.resolve("a", wait=5)
        assert isinstance(answer, Ready)
        assert answer.payload.files[0].content == "a,b "
        assert source.runs <= 4


@pytest.mark.parametrize("words", [{}, {"at_least": 0}])
def test_a_quorum_of_nobody_is_refused(words: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"quorum|Quorum"):
        Quorum(ReadyAt(1), **words)  # type: ignore[arg-type]


def test_metadata_of_another_shape_is_an_error_that_names_node_and_field() -> None:
    import msgspec

    class Ports(msgspec.Struct):
        api_port: int

    assert node("a", api_port=1).metadata_as(Ports).api_port == 1
    with pytest.raises(MetadataMismatch, match=r"metadata of node a: .*api_port"):
        node("a", api_port="x").metadata_as(Ports)
    with pytest.raises(MetadataMismatch, match="metadata of node a: absent, Ports expected"):
        node("a").metadata_as(Ports)


@pytest.mark.parametrize(
    ("identifier", "ip"),
    [("", "1.1.1.1"), ("a..b", "1.1.1.1"), ("-a", "1.1.1.1"), ("a", "127.0.0.01"), ("a", "host")],
)
def test_a_registration_outside_its_rule_is_refused_when_it_is_made(identifier: str, ip: str) -> None:
    with pytest.raises(InvalidRegistration):
        NodeRegistration(identifier, ip)
