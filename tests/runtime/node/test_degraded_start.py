"""A node that gets no files in time starts from its cache when it may, and only from a cache that is whole and fresh."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import NodeArtifactsPayload, NodeRegistration, ServerUrl
from cfgsync_core.store.epoch import uuid7
from cfgsync_runtime.node.degraded_start import FAILED, LOADED, ConfigStartupMode
from cfgsync_runtime.node.ending import Ending
from cfgsync_runtime.node.fetch import fetch
from cfgsync_runtime.node.memory.state import KnownGeneration, NodeState
from cfgsync_runtime.node.outputs import OutputDirectory
from tests.scripted_server import Cut, Says, Script, ScriptedServer, error, files

EPOCH = "0000001e-8480-7000-8000-000000000000"
CONFIG = ArtifactFile("/config.yaml", "from the cache\n")
CACHED = NodeArtifactsPayload.from_files(ArtifactSet([CONFIG]))
REGISTERED = Says(202)
NOT_READY = [REGISTERED, error(425, "not_ready", registered=True)]
AWAY = [Cut()]


class Node:
    def __init__(self, tmp_path: Path) -> None:
        self.out = tmp_path / "out"
        self.complaints: list[str] = []
        self.state = NodeState(tmp_path / "state", "node-1", complain=self.complaints.append)
        self.payload = tmp_path / "state" / "payload"

    def keep(self, age: float = 0.0, number: int = 7) -> None:
        self.state.keep(CACHED, KnownGeneration(EPOCH, number, CACHED.digest, time.time() - age))

    def start(
        self,
        script: Script,
        max_stale: float | None = None,
        mode: ConfigStartupMode = ConfigStartupMode.DEGRADED,
    ) -> Ending:
        with ScriptedServer(script) as server:
            return fetch(
                NodeRegistration("node-1", "127.0.0.1"),
                ServerUrl.parse(server.url),
                OutputDirectory(str(self.out)),
                self.state,
                wait=0.4,
                mode=mode,
                max_stale=max_stale,
            )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize("script", [AWAY, NOT_READY, [error(503, "unavailable")]])
def test_without_an_answer_in_time_the_cached_files_are_written_and_it_is_said(
    node: Node, script: Script
) -> None:
    node.keep(age=90)
    before = node.payload.read_bytes()
    report = node.start(script).report
    assert (report.status, report.exit, report.reason) == ("degraded", 0, LOADED)
    assert (report.generation, report.digest) == (f"{EPOCH}.7", CACHED.digest)
    assert re.search("1 file in place from the cache, which a server confirmed 9[0-9] s ago", report.message)
    assert (node.out / "current/config.yaml").read_text() == "from the cache\n"
    assert node.payload.read_bytes() == before, "a degraded start confirms nothing"


@pytest.mark.parametrize(("script", "code"), [(AWAY, 7), (NOT_READY, 3)])
def test_without_a_cache_it_ends_with_the_code_of_the_cause_and_writes_nothing(
    node: Node, script: Script, code: int
) -> None:
    report = node.start(script).report
    assert (report.status, report.exit, report.reason, report.files) == ("failed", code, FAILED, ())
    assert report.message.endswith("; and there is no cached payload")
    assert not node.out.exists()


def test_a_damaged_cache_is_as_none_whichever_byte_is_flipped_or_missing(node: Node) -> None:
    node.keep()
    whole = node.payload.read_bytes()
    damaged = [whole[:at] for at in range(len(whole))]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for content in damaged:
        node.payload.write_bytes(content)
        assert node.state.cached() is None
    assert len(node.complaints) == len(damaged)
    report = node.start(AWAY).report
    assert (report.exit, report.reason) == (7, FAILED)
    assert not node.out.exists()


def test_that_the_cache_is_damaged_is_the_reason_and_not_that_there_is_none(node: Node) -> None:
    node.keep()
    node.payload.write_bytes(node.payload.read_bytes()[:-1])
    report = node.start(AWAY).report
    assert (report.exit, report.reason) == (7, FAILED)
    assert "; and the cached payload is damaged (its first line" in report.message


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["payload", "seen"])
def test_a_pipe_in_the_cache_holds_no_start_up(node: Node, name: str) -> None:
    node.keep()
    (node.payload.parent / name).unlink()
    os.mkfifo(node.payload.parent / name)
    report = node.start(AWAY).report
    if name == "seen":
        assert report.status == "degraded", "the payload is whole"
    else:
        assert (report.status, report.exit, report.reason) == ("failed", 7, FAILED)
        assert report.message.endswith("; and the cached payload is not a regular file")
    assert any(f"{name} is not a regular file" in line for line in node.complaints)
    said = node.start([REGISTERED, files([CONFIG], f"{EPOCH}.8")]).report
    assert (said.status, said.exit) == ("ready", 0), (
        "the files are in place, though they cannot be remembered"
    )


def test_another_nodes_cache_is_as_none(node: Node, tmp_path: Path) -> None:
    NodeState(tmp_path / "state", "node-2").keep(
        CACHED, KnownGeneration(EPOCH, 7, CACHED.digest, time.time())
    )
    report = node.start(AWAY).report
    assert (report.status, report.exit, report.reason) == ("failed", 7, FAILED)
    assert report.message.endswith("; and the cached payload is of the node 'node-2', not of 'node-1'")
    assert not node.out.exists()


@pytest.mark.parametrize(("age", "code"), [(10, 0), (100, 7)])
def test_a_cache_that_is_older_than_max_stale_is_as_none(node: Node, age: float, code: int) -> None:
    node.keep(age)
    report = node.start(AWAY, max_stale=50).report
    assert report.exit == code
    if code:
        assert (report.reason, node.out.exists()) == (FAILED, False)
        assert "the cached payload is 100 s old, more than --max-stale 50 s" in report.message


def test_what_a_server_confirmed_since_makes_the_cache_younger(node: Node) -> None:
    node.keep(age=100)
    node.state.saw(KnownGeneration(EPOCH, 8, CACHED.digest, time.time() - 10))
    report = node.start(AWAY, max_stale=50).report
    assert (report.status, report.generation) == ("degraded", f"{EPOCH}.8")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([error(422, "invalid_request")], 2),
        ([REGISTERED, error(404, "missing_config")], 4),
        ([error(409, "identity_conflict")], 5),
        ([REGISTERED, files([CONFIG], etag="sha256-" + "0" * 64)], 6),
        ([REGISTERED, files([CONFIG], f"{EPOCH}.6")], 6),
    ],
)
def test_an_answer_is_never_hidden_behind_the_cache(node: Node, script: Script, code: int) -> None:
    node.keep()
    report = node.start(script).report
    assert (report.status, report.exit) == ("failed", code)
    assert not node.out.exists()


def test_a_disk_that_refuses_is_never_hidden_behind_the_cache(node: Node) -> None:
    node.keep()
    node.out.write_text("a file where a directory must be")
    assert node.start([REGISTERED, files([ArtifactFile("/a", "")], f"{EPOCH}.8")]).report.exit == 8


def test_fail_closed_does_not_look_at_the_cache(node: Node) -> None:
    node.keep()
    report = node.start(AWAY, mode=ConfigStartupMode.FAIL_CLOSED).report
    assert (report.status, report.exit, report.reason) == ("failed", 7, "unreachable")
    assert not node.out.exists()


def test_inv_14_a_degraded_start_is_current_by_no_means_and_the_next_answer_is_taken(node: Node) -> None:
    node.keep()
    assert node.start(AWAY).report.status == "degraded"
    newer = files([ArtifactFile("/config.yaml", "newer\n")], f"{EPOCH}.8")
    assert node.start([REGISTERED, newer]).report.status == "ready"
    assert (node.out / "current/config.yaml").read_text() == "newer\n"


def test_inv_14_no_failure_empties_or_changes_the_cache(node: Node) -> None:
    node.keep()
    files_before = {name: (node.payload.parent / name).read_bytes() for name in ("payload", "seen")}
    for script in (AWAY, NOT_READY, [REGISTERED, files([])], [REGISTERED, files([CONFIG], f"{EPOCH}.1")]):
        node.start(script)
        node.start(script, mode=ConfigStartupMode.FAIL_CLOSED)
    assert {name: (node.payload.parent / name).read_bytes() for name in files_before} == files_before


def test_the_cache_is_never_overwritten_with_an_older_one(node: Node) -> None:
    node.keep(number=7)
    older = NodeArtifactsPayload.from_files(ArtifactSet([ArtifactFile("/config.yaml", "older\n")]))
    assert not node.state.keep(older, KnownGeneration(EPOCH, 6, older.digest, time.time()))
    assert not node.state.keep(older, KnownGeneration(uuid7(1_000_000), 99, older.digest, time.time()))
    assert not node.state.saw(KnownGeneration(EPOCH, 6, older.digest, time.time()))
    cached, seen = node.state.cached(), node.state.seen()
    assert cached is not None
    assert seen is not None
    assert (cached.payload.digest, cached.number, seen.number) == (CACHED.digest, 7, 7)
    assert node.state.keep(older, KnownGeneration(uuid7(3_000_000), 1, older.digest, time.time()))
    assert sorted(os.listdir(node.payload.parent)) == ["payload", "seen"]


def test_an_age_that_a_clock_behind_cannot_tell_is_too_old_for_a_limit_and_said_without_one(
    node: Node,
) -> None:
    node.keep(age=-86400)
    report = node.start(AWAY, max_stale=50).report
    assert (report.exit, report.reason, node.out.exists()) == (7, FAILED, False)
    assert "the age of the cached payload cannot be known" in report.message
    report = node.start(AWAY).report
    assert report.exit == 0
    assert "which a server confirmed at a time that this machine's clock has not reached" in report.message
