"""An operator's files in place of the materializer's: versioned, kept, explained, and gone when they are taken away."""

from __future__ import annotations

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializedArtifacts,
    NotReady,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_adapter.generations.generation import Generation
from cfgsync_artifacts import DuplicatePath
from cfgsync_core import MaterializationFailed, MemoryStore, Missing, Ready, Unavailable
from tests.adapter.fleets import ReadyAt, node
from tests.faults import BrokenStore

MINE = ArtifactSet([ArtifactFile("/config", "mine", "0600"), ArtifactFile("/blob", b"\xff")])
NONE = ArtifactSet()


class Shared:
    """`/config` for everybody but `extra`, and `/shared`."""

    def __init__(self) -> None:
        self.shared = "/shared"

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
        made = {
            name: [ArtifactFile("/config", name), ArtifactFile("/other", "")]
            for name in registrations.identifiers
            if name != "extra"
        }
        return MaterializedArtifacts.from_nodes(made).with_shared([ArtifactFile(self.shared, "all")])


async def newest(source: RegistrationConfigSource) -> Generation:
    """The generation of everything that is known now."""
    verdict = (await source.parts.operator.renew(wait=5)).verdict
    assert verdict is not None
    assert isinstance(verdict.outcome, Generation), verdict
    return verdict.outcome


async def paths(source: RegistrationConfigSource, name: str) -> list[tuple[str, str | bytes, str]]:
    answer = await source.resolve(name)
    assert isinstance(answer, Ready), answer
    return [(file.path, file.content, file.mode) for file in answer.payload.files]


async def eventually(source: RegistrationConfigSource, name: str, known: str | None) -> Ready:
    answer = await source.resolve(name, known=known, wait=5)
    assert isinstance(answer, Ready)
    assert answer.payload.digest != known
    return answer


async def test_a_replaced_node_gets_its_files_and_the_shared_ones_and_the_others_are_unchanged() -> None:
    async with RegistrationConfigSource(Shared()) as source:
        for name in ("a", "b"):
            await source.register(node(name))
        before = await source.resolve("b")
        first = await source.resolve("a")
        assert isinstance(first, Ready)
        await source.parts.operator.replace("a", MINE)
        changed = await eventually(source, "a", first.payload.digest)  # a run starts by itself
        assert await paths(source, "a") == [
            ("/config", "mine", "0600"),
            ("/blob", b"\xff", "0644"),
            ("/shared", "all", "0644"),
        ]
        assert changed.payload.extended == "/config"
        assert changed.generation != first.generation
        after = await source.resolve("b")
        assert isinstance(before, Ready)
        assert isinstance(after, Ready)
        assert after.payload.digest == before.payload.digest
        assert source.generation is not None
        assert source.generation.replaced == {"a"}
        assert source.generation.source.replacements is not None
        served = source.generation.artifacts()  # what a sink receives is what is served
        assert [file.path for file in served.nodes["a"]] == ["/config", "/blob"]
        assert [file.path for file in served.shared] == ["/shared"]


async def test_no_files_take_the_replacement_away_and_the_digest_is_the_old_one_again() -> None:
    async with RegistrationConfigSource(Shared()) as source:
        await source.register(node("a"))
        first = await source.resolve("a")
        assert isinstance(first, Ready)
        version = await source.parts.operator.replace("a", MINE)
        assert await source.parts.operator.replace("a", MINE) == version  # the same again is no revision
        mine = await eventually(source, "a", first.payload.digest)
        await source.parts.operator.replace("a", NONE)
        back = await eventually(source, "a", mine.payload.digest)
        assert back.payload.body == first.payload.body
        assert "operator" not in source.node("a").reason


async def test_a_node_that_the_materializer_leaves_out_and_one_that_is_yet_to_come_can_be_replaced() -> None:
    async with RegistrationConfigSource(Shared()) as source:
        await source.register(node("a"))
        await source.register(node("extra"))
        assert isinstance(await source.resolve("extra"), Missing)
        await source.parts.operator.replace("extra", MINE)
        await source.parts.operator.replace("later", MINE)
        assert set((await newest(source)).nodes) == {"a", "extra"}
        await source.register(node("later"))
        assert (await paths(source, "later"))[0] == ("/config", "mine", "0600")


async def test_a_replacement_makes_nobody_ready_who_is_not() -> None:
    async with RegistrationConfigSource(ReadyAt(2)) as source:
        await source.register(node("a"))
        await source.parts.operator.replace("a", MINE)
        assert isinstance(await source.resolve("a"), NotReady)


async def test_a_replacement_survives_a_restart_and_the_node_s_registration_anew() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(Shared(), store=store) as source:
        await source.register(node("a"))
        await source.parts.operator.replace("a", MINE)
        body = (await newest(source)).nodes["a"].body
    async with RegistrationConfigSource(Shared(), store=store) as source:
        assert source.generation is not None
        assert source.generation.nodes["a"].body == body
        assert source.generation.replaced == {"a"}
        assert source.runs == 0  # its source stands, also in that part
        await source.register(node("a", port=2))
        assert (await newest(source)).nodes["a"].body == body
        assert "operator" in source.node("a").reason


async def test_a_frozen_fleet_takes_it_with_a_renewal() -> None:
    async with RegistrationConfigSource(Shared(), late="freeze") as source:
        await source.register(node("a"))
        await source.resolve("a")
        await source.parts.operator.replace("a", MINE)
        assert (await paths(source, "a"))[0] == ("/config", "a", "0644")
        assert "waits for cfgsync generation rebuild" in source.node("a").reason
        await newest(source)
        assert (await paths(source, "a"))[0] == ("/config", "mine", "0600")


async def test_a_path_that_is_a_shared_one_s_too_is_refused_now_and_fails_a_later_run() -> None:
    app = Shared()
    async with RegistrationConfigSource(app) as source:
        await source.register(node("a"))
        await source.resolve("a")
        with pytest.raises(DuplicatePath):
            await source.parts.operator.replace("a", ArtifactSet([ArtifactFile("/shared", "mine")]))
        await source.parts.operator.replace("a", MINE)
        await newest(source)
        app.shared = "/config"
        said = (await source.parts.operator.renew()).verdict
        assert said is not None
        assert isinstance(said.outcome, MaterializationFailed)
        assert "/config" in said.outcome.cause
        assert (await paths(source, "a"))[0] == ("/config", "mine", "0600")


async def test_what_an_operator_gives_is_no_shrink() -> None:
    async with RegistrationConfigSource(Shared(), shrink_guard=10) as source:
        await source.register(node("a"))
        await source.resolve("a")
        await source.parts.operator.replace("a", ArtifactSet([ArtifactFile("/one", "")]))
        assert [file.path for file in (await newest(source)).nodes["a"].files] == ["/one", "/shared"]
        await source.parts.operator.replace("a", NONE)
        assert [file.path for file in (await newest(source)).nodes["a"].files] == [
            "/config",
            "/other",
            "/shared",
        ]


async def test_equal_files_are_kept_once_and_what_nobody_has_is_pruned() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(Shared(), store=store) as source:
        await source.parts.operator.replace("a", MINE)
        await source.parts.operator.replace("b", MINE)
        await source.parts.operator.replace("a", NONE)
        keys = [entry.key async for entry in store.export("replacements")]
        assert sum(key.startswith("blob/") for key in keys) == 1
        await source.parts.operator.replace("b", NONE)
        keys = [entry.key async for entry in store.export("replacements")]
        assert not any(key.startswith("blob/") for key in keys)


async def test_two_servers_never_take_each_other_s_files_away() -> None:
    store = MemoryStore()
    async with (
        RegistrationConfigSource(Shared(), store=store) as one,
        RegistrationConfigSource(Shared(), store=store) as other,
    ):
        await one.parts.operator.replace("a", MINE)
        await other.parts.operator.replace("b", MINE)
        await one.parts.operator.replace("a", NONE)
    async with RegistrationConfigSource(Shared(), store=store) as source:
        await source.register(node("b"))
        assert (await paths(source, "b"))[0] == ("/config", "mine", "0600")


async def test_a_replacement_that_the_store_does_not_keep_is_none() -> None:
    broken = BrokenStore(MemoryStore(), after=10_000)
    async with RegistrationConfigSource(Shared(), store=broken) as source:
        await source.register(node("a"))
        await source.resolve("a")
        broken.break_after(0)
        with pytest.raises(Unavailable):
            await source.parts.operator.replace("a", MINE)
        broken.mend()
        assert (await newest(source)).replaced == frozenset()
