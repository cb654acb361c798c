"""A bundle is checked whole when it is made, and its source serves it without registration and without change."""

import asyncio
import time

import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet, DuplicatePath
from cfgsync_core import (
    NEVER,
    Acknowledgement,
    BundleConfigSource,
    InvalidBundle,
    Missing,
    NodeArtifactsBundle,
    NodeArtifactsBundleEntry,
    NodeRegistration,
    Ready,
    StaleGeneration,
    StaticConfigSource,
)
from cfgsync_core.wire import NodeDrift

LOCAL = ArtifactSet([ArtifactFile("/config.yaml", "id: node-1\n")])
SHARED = ArtifactSet([ArtifactFile("/shared.yaml", "cluster: ready")])


def bundle(*identifiers: str, shared: ArtifactSet = SHARED) -> NodeArtifactsBundle:
    return NodeArtifactsBundle(
        [
            NodeArtifactsBundleEntry(name, [ArtifactFile("/config.yaml", f"id: {name}\n")])
            for name in identifiers
        ],
        shared,
    )


async def files_of(source: StaticConfigSource, identifier: str) -> list[str]:
    answer = await source.resolve(identifier)
    assert isinstance(answer, Ready)
    return [file.path for file in answer.payload.files]


# ── serving ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_node_that_never_registered_gets_its_own_files_then_the_shared_ones():
    source = StaticConfigSource({"node-1": LOCAL}, SHARED)
    answer = await source.resolve("node-1")
    assert isinstance(answer, Ready)
    assert answer.generation is None
    assert answer.payload.body == (
        b'{"schema_version":1,"files":[{"path":"/config.yaml","content":"id: node-1\\n"},'
        b'{"path":"/shared.yaml","content":"cluster: ready"}]}'
    )
    assert answer.payload.digest == (LOCAL + SHARED).digest


async def test_an_unknown_identifier_is_missing_whether_it_asks_or_registers():
    source = StaticConfigSource({"node-1": LOCAL})
    assert await source.resolve("node-2") == Missing()
    assert await source.register(NodeRegistration("node-2", "127.0.0.1")) == Missing()
    assert await source.register(NodeRegistration("node-1", "127.0.0.1")) == NEVER


async def test_every_node_shares_one_encoded_shared_part():
    source = StaticConfigSource.from_bundle(bundle("a", "b"))
    one, two = [(await source.resolve(name)).payload for name in ("a", "b")]
    assert one.chunks[1] is two.chunks[1]
    assert one.digest != two.digest


async def test_a_shared_secret_makes_every_payload_extended():
    source = StaticConfigSource({"a": LOCAL}, ArtifactSet([ArtifactFile("/key", "s", "0600")]))
    assert (await source.resolve("a")).payload.extended == "/key"


@pytest.mark.timed
async def test_a_node_with_the_same_files_is_held_for_its_wait_and_no_other_node_is():
    source = StaticConfigSource({"node-1": LOCAL})
    digest = LOCAL.digest
    start = time.monotonic()
    await source.resolve("node-1", known="sha256-other", wait=5)
    await source.resolve("node-1", known=digest, wait=0)
    await source.resolve("node-1", wait=5)
    assert time.monotonic() - start < 1
    held = asyncio.create_task(source.resolve("node-1", known=digest, wait=0.1))
    await asyncio.sleep(0.03)
    assert not held.done()
    assert isinstance(await held, Ready)


async def test_the_source_of_a_bundle_file_names_the_file_to_the_operator_and_not_to_the_node():
    source = BundleConfigSource(bundle("a", "b"), "cfgsync.bundle.yaml")
    assert await files_of(source, "b") == ["/config.yaml", "/shared.yaml"]
    assert source.node("stranger").reason == "not among the 2 nodes of cfgsync.bundle.yaml"
    assert await source.resolve("stranger") == Missing("")


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_status_pages_through_nodes_in_order_and_says_who_has_been_here():
    source = StaticConfigSource(dict.fromkeys(("c", "a", "b"), LOCAL), clock=lambda: 0.5)
    await source.register(NodeRegistration("b", "127.0.0.1"))
    await source.register(NodeRegistration("b", "127.0.0.1"))
    await source.resolve("c")
    fleet = source.fleet(limit=2, after="a")
    assert [node.identifier for node in fleet.nodes] == ["b", "c"]
    assert [node.registered for node in fleet.nodes] == [True, False]
    assert [node.last_seen for node in fleet.nodes] == ["1970-01-01T00:00:00Z"] * 2
    assert (fleet.generation, fleet.registered, fleet.waiting) == (None, 1, 0)
    assert source.node("a").last_seen is None
    assert await source.ping() is None


# ── what is refused when it is made ──────────────────────────────────────────────────────────────────────────────────


def test_an_identifier_given_twice_is_refused_with_both_places():
    with pytest.raises(InvalidBundle) as refused:
        bundle("a", "b", "a")
    assert refused.value.at == ("nodes", 2, "identifier")
    assert str(refused.value) == "nodes[2].identifier: a is given twice, first as nodes[0]"


def test_a_shared_file_that_hides_a_local_one_is_refused_naming_node_and_path():
    with pytest.raises(InvalidBundle) as refused:
        bundle("a", shared=ArtifactSet([ArtifactFile("/x", ""), ArtifactFile("/config.yaml", "")]))
    assert str(refused.value) == (
        "shared_files[1].path: the shared file '/config.yaml' hides the own file of node a with that path"
    )
    with pytest.raises(InvalidBundle, match="hides"):
        StaticConfigSource({"a": LOCAL}, LOCAL)


def test_a_list_of_files_is_taken_and_a_path_given_twice_in_it_is_refused():
    entry = NodeArtifactsBundleEntry("a", [ArtifactFile("/x", "1")])
    assert entry == NodeArtifactsBundleEntry("a", ArtifactSet([ArtifactFile("/x", "1")]))
    with pytest.raises(DuplicatePath, match="/x"):
        NodeArtifactsBundleEntry("a", [ArtifactFile("/x", "1"), ArtifactFile("/x", "3")])
    with pytest.raises(DuplicatePath, match="/x"):
        NodeArtifactsBundle([], [ArtifactFile("/x", "1"), ArtifactFile("/x", "1")])


@pytest.mark.parametrize("identifier", ["", "a b", "../a", "a..b", "é", "-a", "a" * 129])
def test_an_identifier_that_no_request_may_name_is_refused(identifier: str):
    with pytest.raises(InvalidBundle, match=r"^identifier: .* is not 1 to 128 of"):
        NodeArtifactsBundleEntry(identifier)
    with pytest.raises(InvalidBundle, match="identifier"):
        StaticConfigSource({identifier: LOCAL})


# ── the states of its nodes ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_bundles_nodes_are_ready_then_served_then_applied_and_the_fleet_converges() -> None:
    source = StaticConfigSource({"node-1": LOCAL, "node-2": LOCAL}, SHARED)
    digest = (LOCAL + SHARED).digest

    def states() -> tuple[str, ...]:
        return (source.fleet(0, "").state, *(node.state for node in source.nodes(10, "")))

    assert states() == ("converging", "ready", "ready")
    await source.resolve("node-1")
    assert states() == ("converging", "served", "ready")
    assert source.node("node-1").served == digest
    assert (
        await source.acknowledge(Acknowledgement("node-1", None, digest, "applied", drifted=("/a",))) is None
    )
    await source.acknowledge(Acknowledgement("node-2", None, digest, "failed", "disk full"))
    assert states() == ("converging", "applied", "not_applied")
    fleet = source.fleet(1, "")
    assert (fleet.applied, fleet.behind_count, fleet.counts["not_applied"], fleet.converged) == (
        1,
        1,
        1,
        False,
    )
    assert fleet.behind[0].reason == "could not apply its files: disk full"
    assert source.node("node-1").drifted == ("/a",)
    assert (fleet.drifted, fleet.drifted_count) == ((NodeDrift("node-1", ("/a",)),), 1)
    await source.acknowledge(Acknowledgement("node-2", None, digest, "applied"))
    assert states() == ("converged", "applied", "applied")
    assert source.fleet(0, "").converged
    assert source.node("node-2").last_failure is None


async def test_what_was_applied_counts_by_digest_and_a_later_failure_of_the_same_files_counts_more() -> None:
    source = StaticConfigSource({"node-1": LOCAL})
    await source.acknowledge(Acknowledgement("node-1", None, SHARED.digest, "applied"))
    assert source.node("node-1").state == "ready", "these are other files"
    await source.acknowledge(Acknowledgement("node-1", None, LOCAL.digest, "applied"))
    await source.acknowledge(Acknowledgement("node-1", None, SHARED.digest, "failed"))
    assert source.node("node-1").state == "applied", "what it has is what the bundle gives it"
    await source.acknowledge(Acknowledgement("node-1", None, LOCAL.digest, "failed"))
    node = source.node("node-1")
    assert (node.state, node.reason) == ("not_applied", "could not apply its files: no reason given")


async def test_an_acknowledgement_for_a_generation_or_from_a_stranger_is_refused() -> None:
    source = StaticConfigSource({"node-1": LOCAL})
    with pytest.raises(StaleGeneration):
        await source.acknowledge(
            Acknowledgement("node-1", "01890a5d-ac96-774b-bcce-b302099a8057.1", LOCAL.digest, "applied")
        )
    assert await source.acknowledge(Acknowledgement("node-2", None, LOCAL.digest, "applied")) == Missing()
    assert source.fleet(0, "").counts["applied"] == 0


async def test_other_files_answer_a_held_node_which_is_then_served_them_and_has_not_applied_them() -> None:
    source = StaticConfigSource({"node-1": LOCAL, "node-2": LOCAL})
    await source.resolve("node-1")
    await source.acknowledge(Acknowledgement("node-1", None, LOCAL.digest, "applied"))
    held = asyncio.create_task(source.resolve("node-1", known=LOCAL.digest, wait=30))
    gone = asyncio.create_task(source.resolve("node-2", known=LOCAL.digest, wait=30))
    assert isinstance(await gone, Ready), "the first answer since the start is at once"
    gone = asyncio.create_task(source.resolve("node-2", known=LOCAL.digest, wait=30))
    await asyncio.sleep(0)
    source.adopt(StaticConfigSource({"node-1": SHARED}))
    answer = await held
    assert isinstance(answer, Ready)
    assert answer.payload.digest == SHARED.digest
    assert await gone == Missing()
    node = source.node("node-1")
    assert (node.state, node.served, node.applied) == ("served", SHARED.digest, LOCAL.digest)
    assert sum(source.fleet(0, "").counts.values()) == 1
    await source.acknowledge(Acknowledgement("node-1", None, SHARED.digest, "applied"))
    assert source.fleet(0, "").converged


async def test_other_files_than_a_node_has_applied_or_refused_are_new_to_it() -> None:
    source = StaticConfigSource({"node-1": LOCAL, "node-2": LOCAL, "node-3": LOCAL})
    for name, status in (("node-1", "applied"), ("node-2", "failed")):
        await source.resolve(name)
        await source.acknowledge(Acknowledgement(name, None, LOCAL.digest, status))  # type: ignore[arg-type]
    source.adopt(StaticConfigSource({"node-1": SHARED, "node-2": SHARED, "node-3": SHARED}))
    changed = "its files have changed, and it has not asked for the new ones yet"
    never = "its files are ready, and it has not asked for them since this server started"
    assert [(node.state, node.reason) for node in source.nodes(3, "")] == [
        ("ready", changed),
        ("ready", changed),
        ("ready", never),
    ]
