"""A node that trusts keys writes nothing that is not signed for it: not from a server, not from its cache, not in step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import (
    AppliedFiles,
    BundleConfigSource,
    CfgsyncClient,
    Fetched,
    FetchFailed,
    IntegrityError,
    NodeArtifactsBundle,
    NodeArtifactsBundleEntry,
    NodeArtifactsPayload,
    NodeRegistration,
    ServerUrl,
    Untrusted,
    Version,
)
from cfgsync_core.node import Verify
from cfgsync_core.store.epoch import uuid7
from cfgsync_runtime import OutputDirectory, Signer, Verifier, fetch_and_write_artifacts, serving_source
from cfgsync_runtime.access.signatures import make_key_pair
from cfgsync_runtime.node.degraded_start import ConfigStartupMode
from cfgsync_runtime.node.ending import Report
from cfgsync_runtime.node.fetch import fetch
from cfgsync_runtime.node.memory.state import KnownGeneration, NodeState
from tests.scripted_server import Cut, Says, Script, ScriptedServer, files

EPOCH = uuid7(2_000_000)
CONFIG = ArtifactFile("/config.yaml", "id: node-1\n")
PAYLOAD = NodeArtifactsPayload.from_files(ArtifactSet([CONFIG]))
NODE = NodeRegistration("node-1", "127.0.0.1")
AWAY = [Cut()]


class Node:
    def __init__(self, root: Path) -> None:
        make_key_pair(str(root / "ours.key"))
        make_key_pair(str(root / "theirs.key"))
        self.sign, self.forge = Signer(str(root / "ours.key")), Signer(str(root / "theirs.key"))
        self.out = root / "out"
        self.key = f"{root / 'ours.key'}.pub"
        self.state = NodeState(root / "state", "node-1", complain=lambda _: None)
        self.state.verify = Verifier([self.key])

    def start(self, script: Script, mode: ConfigStartupMode = ConfigStartupMode.FAIL_CLOSED) -> Report:
        with ScriptedServer(script) as server:
            at = ServerUrl.parse(server.url)
            out = OutputDirectory(str(self.out))
            return fetch(NODE, at, out, self.state, wait=0.5, mode=mode).report


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def answer(generation: str | None, signature: str | None) -> Script:
    said = files([CONFIG], generation)
    headers = said.headers if signature is None else {**said.headers, "Cfgsync-Signature": signature}
    return [Says(202), Says(200, said.body, headers)]


def test_signed_files_are_written_and_remembered_with_their_signature(node: Node) -> None:
    text = node.sign("node-1", f"{EPOCH}.3", PAYLOAD.digest)
    assert node.start(answer(f"{EPOCH}.3", text)).exit == 0
    cached = node.state.cached()
    assert cached is not None
    assert (cached.signature, cached.signed) == (text, f"{EPOCH}.3")


@pytest.mark.parametrize(
    ("generation", "signature", "why"),
    [
        (f"{EPOCH}.3", lambda node: None, "not signed"),
        (f"{EPOCH}.3", lambda node: node.forge("node-1", f"{EPOCH}.3", PAYLOAD.digest), "signed by key"),
        (f"{EPOCH}.3", lambda node: node.sign("node-2", f"{EPOCH}.3", PAYLOAD.digest), "for node node-2"),
        (
            f"{EPOCH}.3",
            lambda node: node.sign("node-1", f"{EPOCH}.2", PAYLOAD.digest),
            f"generation {EPOCH}.2",
        ),
        (f"{EPOCH}.3", lambda node: node.sign("node-1", f"{EPOCH}.3", f"sha256-{'0' * 64}"), "with digest"),
        (None, lambda node: node.sign("node-1", f"{EPOCH}.3", PAYLOAD.digest), "the answer names none"),
        (f"{EPOCH}.3", lambda node: node.sign("node-1", "3", PAYLOAD.digest), "for generation 3"),
    ],
    ids=[
        "none",
        "another key",
        "another node",
        "an older generation",
        "other files",
        "stripped",
        "a bundle's",
    ],
)
def test_a_wrong_signature_is_exit_6_says_why_and_nothing_is_written(
    node: Node, generation: str | None, signature: Callable[[Node], str | None], why: str
) -> None:
    report = node.start(answer(generation, signature(node)))
    assert (report.exit, report.reason) == (6, "integrity")
    assert why in report.message
    assert not node.out.exists()
    assert node.state.cached() is None


def test_a_cache_is_verified_before_a_degraded_start(node: Node) -> None:
    degraded = ConfigStartupMode.DEGRADED
    assert node.start(answer(f"{EPOCH}.3", node.sign("node-1", f"{EPOCH}.3", PAYLOAD.digest))).exit == 0
    node.state.saw(KnownGeneration(EPOCH, 9, PAYLOAD.digest, time.time() + 1))  # unchanged, in generation 9
    report = node.start(AWAY, degraded)
    assert (report.status, report.generation) == ("degraded", f"{EPOCH}.9")
    node.state.verify = Verifier([f"{node.key.removesuffix('ours.key.pub')}theirs.key.pub"])
    report = node.start(AWAY, degraded)
    assert (report.status, report.exit) == ("failed", 6)
    assert report.message.startswith("the cached payload cannot be used: the files are signed by key")


def test_a_cache_from_before_the_key_was_given_is_refused_unless_it_came_signed(node: Node) -> None:
    verify, node.state.verify = node.state.verify, None
    assert node.start(answer(f"{EPOCH}.3", None)).exit == 0
    node.state.verify = verify
    report = node.start(AWAY, ConfigStartupMode.DEGRADED)
    assert (report.exit, "not signed" in report.message) == (6, True)
    node.state.verify = None
    assert node.start(answer(f"{EPOCH}.4", node.sign("node-1", f"{EPOCH}.4", PAYLOAD.digest))).exit == 0
    node.state.verify = verify
    assert node.start(AWAY, ConfigStartupMode.DEGRADED).status == "degraded"


def test_an_older_revision_of_a_bundle_is_refused_after_a_restart_too(node: Node) -> None:
    assert node.start(answer(None, node.sign("node-1", "12", PAYLOAD.digest))).exit == 0
    node.state.saw(
        KnownGeneration("", 0, PAYLOAD.digest, time.time() + 1)
    )  # a 304 of --watch names no revision
    seen = node.state.seen()
    assert seen is not None
    node.state.verify = Verifier([node.key], seen.number)
    report = node.start(answer(None, node.sign("node-1", "11", PAYLOAD.digest)))
    assert (report.exit, "this node has seen revision 12" in report.message) == (6, True)


async def test_a_program_takes_only_signed_files(node: Node, tmp_path: Path) -> None:
    def fetched(key: Verify) -> object:
        return fetch_and_write_artifacts(NODE, server.url, OutputDirectory(str(node.out)), verify=key, wait=5)

    with ScriptedServer(answer(f"{EPOCH}.3", node.sign("node-1", f"{EPOCH}.3", PAYLOAD.digest))) as server:
        with pytest.raises(FetchFailed) as caught:
            await fetched(Verifier([str(tmp_path / "theirs.key.pub")]))
        assert isinstance(caught.value.outcome, Untrusted)
        assert not node.out.exists()
    with ScriptedServer(answer(f"{EPOCH}.3", node.sign("node-1", f"{EPOCH}.3", PAYLOAD.digest))) as server:
        await fetched(Verifier([node.key]))
        assert (node.out / "current/config.yaml").exists()
        async with CfgsyncClient(server.url, verify=Verifier([str(tmp_path / "theirs.key.pub")])) as client:
            with pytest.raises(IntegrityError, match="signed by key"):
                await client.resolve(NODE)


async def test_a_watching_node_keeps_its_files_when_others_come_with_a_wrong_signature(node: Node) -> None:
    def bundle(content: str, sign: Signer, revision: int) -> BundleConfigSource:
        own = ArtifactSet([ArtifactFile("/config.yaml", content)])
        digest = NodeArtifactsPayload.from_files(own).digest
        signed = {"node-1": sign("node-1", str(revision), digest)}
        entry = NodeArtifactsBundleEntry("node-1", own)
        return BundleConfigSource(
            NodeArtifactsBundle((entry,), revision=revision, signatures=signed), "b.yaml"
        )

    landed: list[str] = []

    async def apply(fetched: Fetched) -> None:
        landed.extend(str(file.content) for file in fetched.payload.files)

    source = bundle("one", node.sign, 1)
    async with (
        serving_source(source, source, acknowledging=source, sign=source.signature) as server,
        CfgsyncClient(server.url, verify=Verifier([node.key])) as client,
        client.watch(NODE, apply, interval=0.1) as watch,
    ):
        async with asyncio.timeout(30):
            while landed != ["one"]:
                await asyncio.sleep(0.01)
            source.adopt(bundle("two", node.forge, 2))
            while "signed by key" not in watch.why:
                await asyncio.sleep(0.01)
            assert watch.held is not None
            while "signed by key" not in source.node("node-1").reason:
                await asyncio.sleep(0.01)
            source.adopt(bundle("three", node.sign, 3))
            while landed != ["one", "three"]:
                await asyncio.sleep(0.01)
            source.adopt(bundle("one again", node.sign, 2))
            while "this node has seen revision 3" not in watch.why:
                await asyncio.sleep(0.01)
    assert landed == ["one", "three"]


async def test_an_unchanged_answer_cannot_raise_the_generation_without_a_signature(node: Node) -> None:
    """Otherwise a forged 304 would make the node refuse every true generation after it."""
    held = AppliedFiles(Version(EPOCH, 3), PAYLOAD.digest)
    unchanged = {"ETag": f'"{PAYLOAD.digest}"', "Cfgsync-Generation": f"{EPOCH}.900"}
    with ScriptedServer([Says(202), Says(304, headers=unchanged)]) as server:
        async with (
            CfgsyncClient(server.url, verify=Verifier([node.key])) as client,
            client.watch(NODE, _never, held=held, interval=0.1) as watch,
            asyncio.timeout(30),
        ):
            while "not signed" not in watch.why:
                await asyncio.sleep(0.01)
            assert watch.held == held
    signed = {**unchanged, "Cfgsync-Signature": node.sign("node-1", f"{EPOCH}.900", PAYLOAD.digest)}
    with ScriptedServer([Says(202), Says(304, headers=signed)]) as server:
        async with (
            CfgsyncClient(server.url, verify=Verifier([node.key])) as client,
            client.watch(NODE, _never, held=held, interval=0.1) as watch,
            asyncio.timeout(30),
        ):
            while watch.held == held:
                await asyncio.sleep(0.01)
            assert watch.held == AppliedFiles(Version(EPOCH, 900), PAYLOAD.digest)


async def _never(_: Fetched) -> None:
    raise AssertionError("nothing is to be applied")
