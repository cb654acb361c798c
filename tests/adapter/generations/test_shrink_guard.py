"""A result that leaves out most of what the fleet has is a failed run, unless somebody says that it is meant."""

from __future__ import annotations

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    CachedSnapshotMaterializer,
    MaterializationResult,
    MaterializedArtifacts,
    PersistingSnapshotMaterializer,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_adapter.generations.generation import Generation, Prepared, Source, checked
from cfgsync_adapter.generations.shrink_guard import ShrinkGuard, ShrinkRefused
from cfgsync_core import MaterializationFailed, MemoryStore, Missing, Ready, Version
from tests.adapter.fleets import node

Fleet = dict[str, list[str]]
SHARED = ["/shared"]


def made(fleet: Fleet, shared: list[str] | None = None) -> MaterializedArtifacts:
    files = {
        name: ArtifactSet(ArtifactFile(path, f"{name}{path}") for path in paths)
        for name, paths in fleet.items()
    }
    return MaterializedArtifacts.from_nodes(files).with_shared(
        ArtifactFile(path, "shared") for path in shared or []
    )


def prepared(fleet: Fleet, shared: list[str] | None = None) -> Prepared:
    answer = checked(made(fleet, shared))
    assert isinstance(answer, Prepared)
    return answer


def generation(fleet: Fleet, shared: list[str] | None = None) -> Generation:
    kept = prepared(fleet, shared)
    return Generation(
        "epoch.7", 7, Source(0, Version("epoch", 1)), kept.nodes, frozenset(kept.blobs), kept.map_key
    )


def fleet(count: int, *paths: str) -> Fleet:
    return {f"n{i}": list(paths) for i in range(count)}


async def refused(guard: ShrinkGuard, last: Generation, new: Prepared, registered: set[str]) -> str | None:
    try:
        await guard.check(last, new, registered)
    except ShrinkRefused as error:
        return error.cause
    return None


ALL = set(fleet(10))


@pytest.mark.parametrize(("left", "is_refused"), [(10, False), (5, False), (4, True), (0, True)])
async def test_over_half_of_the_registered_nodes_may_not_be_left_out(left: int, is_refused: bool) -> None:
    cause = await refused(ShrinkGuard(), generation(fleet(10, "/a")), prepared(fleet(left, "/a")), ALL)
    assert (cause is not None) is is_refused
    if cause is not None:
        assert f"{10 - left} of the 10 registered nodes of generation 7" in cause
        for way in ("cfgsync generation rebuild --accept", "accept_shrink()", "--shrink-guard"):
            assert way in cause


async def test_nodes_that_left_are_not_dropped() -> None:
    last, new = generation(fleet(10, "/a")), prepared(fleet(3, "/a"))
    assert await refused(ShrinkGuard(), last, new, {"n0", "n1", "n2"}) is None
    assert await refused(ShrinkGuard(), last, new, set()) is None
    assert await refused(ShrinkGuard(), last, new, {f"n{i}" for i in range(7)}) is not None  # 4 of 7


@pytest.mark.parametrize(("paths", "is_refused"), [(["/a", "/b"], False), (["/a"], True)])
async def test_over_half_of_the_files_may_not_be_left_out(paths: list[str], is_refused: bool) -> None:
    last, new = generation(fleet(4, "/a", "/b", "/c", "/d")), prepared(fleet(4, *paths))
    cause = await refused(ShrinkGuard(), last, new, ALL)
    assert (cause is not None) is is_refused
    if cause is not None:
        assert f"{4 * (4 - len(paths))} of the 16 files of the registered nodes" in cause


async def test_a_renamed_file_is_left_out_and_one_that_becomes_shared_is_not() -> None:
    last = generation(fleet(4, "/a"), SHARED)
    assert await refused(ShrinkGuard(), last, prepared(fleet(4), [*SHARED, "/a"]), ALL) is None
    assert await refused(ShrinkGuard(), last, prepared(fleet(4, "/b"), ["/c"]), ALL) is not None
    assert await refused(ShrinkGuard(), last, prepared(fleet(4, "/b"), SHARED), ALL) is None  # half of them


async def test_the_files_of_a_dropped_node_are_dropped_files() -> None:
    last = generation({"big": [f"/{i}" for i in range(8)], "small": ["/0"]})
    assert await refused(ShrinkGuard(), last, prepared({"small": ["/0"]}), {"big", "small"}) is not None


async def test_new_contents_and_more_files_are_no_shrink() -> None:
    last = generation(fleet(2, "/a"))
    assert await refused(ShrinkGuard(), last, prepared(fleet(5, "/a", "/b"), SHARED), ALL) is None


async def test_the_percentage_is_the_operators() -> None:
    last, new = generation(fleet(10, "/a")), prepared(fleet(7, "/a"))
    assert await refused(ShrinkGuard(20), last, new, ALL) is not None
    assert await refused(ShrinkGuard(30), last, new, ALL) is None
    assert await refused(ShrinkGuard(0), last, prepared({}), ALL) is None
    for wrong in (-1, 101, float("nan")):
        with pytest.raises(ValueError, match="percentage"):
            ShrinkGuard(wrong)


class Shrinking:
    """Everybody, until told to keep only some; `accepting` says that it means it."""

    def __init__(self) -> None:
        self.keep: set[str] | None = None
        self.accepting = False
        self.note = ""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        names = [name for name in registrations.identifiers if self.keep is None or name in self.keep]
        artifacts = made({name: ["/a"] for name in names}, [f"/shared{self.note}"])
        return artifacts.accept_shrink() if self.accepting else artifacts


async def booted(source: RegistrationConfigSource, count: int = 4) -> str:
    for name in fleet(count):
        await source.register(node(name))
    answer = await source.resolve(f"n{count - 1}")
    assert isinstance(answer, Ready)
    return str(answer.generation)


async def test_the_last_good_generation_goes_on_being_served_and_status_says_why() -> None:
    app = Shrinking()
    async with RegistrationConfigSource(app) as source:
        first = await booted(source)
        app.keep = {"n0"}
        await source.register(node("late"))
        with pytest.raises(
            MaterializationFailed, match="leaves out 3 of the 4"
        ):  # who is new is told at once
            await source.resolve("late")
        for name in fleet(4):
            answer = await source.resolve(name)
            assert isinstance(answer, Ready)
            assert answer.generation == first
        assert "leaves out 3 of the 4 registered nodes" in source.fleet(10, "").reason
        assert source.parts.runs.tally.runs["refused"] == 1
        app.keep = None
        await source.register(node("later"))
        assert isinstance(await source.resolve("later"), Ready)


@pytest.mark.parametrize("wrapped", ["bare", "cached", "persisting"])
async def test_a_materializer_that_means_it_is_believed(wrapped: str) -> None:
    class Nowhere:
        def persist(self, artifacts: MaterializedArtifacts) -> None:
            assert artifacts.accepts_shrink or len(artifacts) == 4

    app = Shrinking()
    materializer = {
        "bare": app,
        "cached": CachedSnapshotMaterializer(app),
        "persisting": PersistingSnapshotMaterializer(app, Nowhere()),
    }[wrapped]
    async with RegistrationConfigSource(materializer) as source:
        first = await booted(source)
        app.keep, app.accepting = {"n0"}, True
        await source.register(node("n1", port=2))
        assert isinstance(await source.resolve("n1"), Missing)
        assert source.generation is not None
        assert source.generation.text != first


def test_accepting_is_a_copy_and_no_part_of_the_files() -> None:
    artifacts = made({"a": ["/a"]})
    accepted = artifacts.accept_shrink()
    assert accepted.accepts_shrink
    assert accepted.with_shared([ArtifactFile("/s", "")]).accepts_shrink
    assert not artifacts.accepts_shrink
    assert accepted == artifacts


async def test_a_renewal_that_accepts_is_believed_once() -> None:
    app = Shrinking()
    async with RegistrationConfigSource(app) as source:
        await booted(source, 9)
        app.keep = {"n0", "n1", "n2"}
        said = await source.parts.operator.renew()
        assert said.verdict is not None
        assert isinstance(said.verdict.outcome, MaterializationFailed)
        said = await source.parts.operator.renew(accept=True)
        assert said.verdict is not None
        assert isinstance(said.verdict.outcome, Generation)
        assert set(said.verdict.outcome.nodes) == app.keep
        app.keep = {"n0"}
        said = await source.parts.operator.renew()
        assert said.verdict is not None
        assert isinstance(said.verdict.outcome, MaterializationFailed)
        assert source.parts.runs.tally.runs["refused"] == 2


async def test_an_accepted_renewal_is_not_forgotten_by_a_restart() -> None:
    app, store = Shrinking(), MemoryStore()
    async with RegistrationConfigSource(app, store=store) as source:
        await booted(source)
    async with RegistrationConfigSource(app, store=store) as source:
        app.keep = {"n0"}
        await source.parts.operator.renew(accept=True, wait=0)
    async with RegistrationConfigSource(app, store=store) as source:
        await source.settled(5)
        assert source.generation is not None
        assert set(source.generation.nodes) == {"n0"}
