"""From a name to files on disk over real sockets: every ending, and what is on disk after it."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import Acknowledgement, NodeRegistration, ServerUrl, Version
from cfgsync_core.wire.acknowledgement import decode_acknowledgement
from cfgsync_runtime.node.ending import EXIT, REASON, Ending
from cfgsync_runtime.node.fetch import fetch
from cfgsync_runtime.node.memory.state import NodeState
from cfgsync_runtime.node.network.own_address import own_address
from cfgsync_runtime.node.outputs import ArtifactOutputMap, OutputDirectory
from cfgsync_runtime.node.programs import fetch_and_write_artifacts
from tests.scripted_server import (
    Act,
    Cut,
    Drip,
    Heard,
    OriginalServer,
    Says,
    Script,
    ScriptedServer,
    error,
    files,
)

NODE = NodeRegistration("node-1", "127.0.0.1")
CONFIG = ArtifactFile("/config.yaml", "id: node-1\n")
KEY = ArtifactFile("/tls/key", b"\xff\x00", "0600")
OLD, EPOCH, NEW = (
    "0000000f-4240-7000-8000-000000000000",
    "0000001e-8480-7000-8000-000000000000",
    "0000002d-c6c0-7000-8000-000000000000",
)
REGISTERED = Says(202, headers={"Cfgsync-Version": f"{EPOCH}.1"})
BIG = b'{"schema_version":1,"files":[{"path":"/a","content":"' + b"x" * (17 * 2**20) + b'"}]}'
MANY = [ArtifactFile(f"/f{n}", "") for n in range(1001)]


class Node:
    """One node with its own output and state directory; what it was told while it waited, and noted."""

    def __init__(self, tmp_path: Path) -> None:
        self.out = tmp_path / "out"
        self.state = NodeState(
            tmp_path / "state", "node-1", complain=lambda sentence: self.notes.append(sentence)
        )
        self.waited: list[str] = []
        self.notes: list[str] = []

    def fetch(self, url: str, wait: float = 10, outputs: ArtifactOutputMap | None = None) -> Ending:
        return fetch(
            NODE,
            ServerUrl.parse(url),
            outputs or OutputDirectory(str(self.out)),
            self.state,
            wait=wait,
            waiting=self.waited.append,
            notice=self.notes.append,
        )

    def fetched(self, *script: Act, wait: float = 10) -> Ending:
        with ScriptedServer(script) as server:
            return self.fetch(server.url, wait)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_secret_that_another_process_replaces_meanwhile_is_read_again_once(tmp_path: Path) -> None:
    node = Node(tmp_path)
    old, secret = node.state.secret(), tmp_path / "state" / "secret"
    fresh = "B" * 43

    def answer(heard: Heard) -> Act:
        if heard.headers["authorization"] == f"Bearer {old}":
            secret.write_text(f"{fresh}\n")
            return error(403, "unauthorized") if heard.path == "/node" else REGISTERED
        return REGISTERED if heard.path == "/register" else files([CONFIG], f"{EPOCH}.1")

    with ScriptedServer(answer) as server:
        assert node.fetch(server.url).report.exit == 0
        assert [heard.path for heard in server.heard][:4] == ["/register", "/node", "/register", "/node"]
    with ScriptedServer(lambda _: error(403, "unauthorized")) as server:
        assert node.fetch(server.url).report.exit == 5
        assert len(server.heard) == 1, "the same secret is refused once"


def test_files_are_in_place_after_two_requests_and_acknowledged_over_one_connection(node: Node) -> None:
    with ScriptedServer([REGISTERED, files([CONFIG, KEY], f"{EPOCH}.1")]) as server:
        ending = node.fetch(server.url)
    assert (ending.report.status, ending.report.exit, ending.report.reason) == ("ready", 0, None)
    assert ending.report.generation == f"{EPOCH}.1"
    assert ending.report.files == (f"{node.out}/current/config.yaml", f"{node.out}/current/tls/key")
    assert (node.out / "current/config.yaml").read_text() == "id: node-1\n"
    assert (node.out / "current/tls/key").read_bytes() == b"\xff\x00"
    assert (node.out / "current/tls/key").stat().st_mode & 0o777 == 0o600
    assert server.paths == ["/register", "/node", "/ack"]
    assert {heard.connection for heard in server.heard} == {1}
    assert server.heard[1].headers["prefer"].startswith("wait=")
    assert "accept-encoding" not in server.heard[0].headers


def test_the_secret_is_made_once_and_travels_on_every_request(node: Node) -> None:
    with ScriptedServer([REGISTERED, files([CONFIG]), REGISTERED, files([CONFIG])]) as server:
        node.fetch(server.url)
        node.fetch(server.url)
    assert {heard.headers["authorization"] for heard in server.heard} == {f"Bearer {node.state.secret()}"}


def test_a_second_fetch_of_the_same_files_says_that_nothing_changed(node: Node) -> None:
    script = [REGISTERED, files([CONFIG]), REGISTERED, files([CONFIG])]
    with ScriptedServer(script) as server:
        assert node.fetch(server.url).report.message == "1 file in place"
        assert node.fetch(server.url).report.message == "1 file in place (unchanged)"


GZIP = {"Content-Encoding": "gzip", "ETag": files([CONFIG]).headers["ETag"]}
ENDINGS: list[tuple[str, Script, int]] = [
    ("rejected", [error(422, "invalid_request", "ip: no")], 2),
    ("not ready", [REGISTERED, error(425, "not_ready", registered=True)], 3),
    ("materializer failed", [REGISTERED, error(500, "internal", "boom")], 3),
    ("missing", [REGISTERED, error(404, "missing_config")], 4),
    ("missing at the door", [error(404, "missing_config")], 4),
    ("bound to another", [error(409, "identity_conflict")], 5),
    ("without the secret", [error(401, "unauthorized")], 5),
    ("wrong digest", [REGISTERED, files([CONFIG], etag="sha256-" + "0" * 64)], 6),
    ("illegal path", [REGISTERED, files([ArtifactFile("/../etc/x", "")])], 6),
    ("no files", [REGISTERED, files([])], 6),
    ("too many files", [REGISTERED, files(MANY)], 6),
    ("a file over 8 MiB", [REGISTERED, files([ArtifactFile("/a", "x" * (8 * 2**20 + 1))])], 6),
    ("17 MiB", [REGISTERED, Says(200, BIG)], 6),
    ("17 MiB without a length", [REGISTERED, Says(200, BIG, chunked=True)], 6),
    ("compressed", [REGISTERED, Says(200, gzip.compress(b"{}"), GZIP)], 6),
    ("redirected", [Says(307, headers={"Location": "http://127.0.0.1:1/"})], 7),
    ("a foreign page", [REGISTERED, Says(200, b"<html>")], 7),
    ("a mesh that forbids", [Says(403, b"RBAC: access denied")], 7),
    ("another server", [Says(404, b"<html>")], 7),
    ("unavailable", [error(503, "unavailable")], 7),
    ("closed without a word", [Cut()], 7),
    ("not HTTP", [Cut(b"SSH-2.0-OpenSSH_9.2\r\n")], 7),
]


@pytest.mark.parametrize(("script", "code"), [row[1:] for row in ENDINGS], ids=[row[0] for row in ENDINGS])
def test_an_ending_without_files_has_its_exit_code_two_lines_and_touches_nothing(
    node: Node, script: Script, code: int
) -> None:
    with ScriptedServer(script) as server:
        ending = node.fetch(server.url, wait={3: 2.0, 7: 0.6}.get(code, 30.0))
    assert ending.report.exit == code
    assert (ending.report.status, ending.report.reason) == ("failed", REASON[code])
    assert (ending.report.generation, ending.report.digest, ending.report.files) == (None, None, ())
    assert ending.report.message
    assert ending.hint
    assert not node.out.exists()


def test_every_way_to_end_has_an_exit_code() -> None:
    assert sorted(set(EXIT.values())) == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    assert set(REASON) == set(EXIT.values()) - {0}


def test_a_failed_fetch_leaves_the_files_of_the_one_before(node: Node) -> None:
    assert node.fetched(REGISTERED, files([CONFIG], f"{EPOCH}.1")).report.exit == 0
    before = (node.out / "current/config.yaml").read_text()
    for script in (script for _, script, code in ENDINGS if code == 6 and isinstance(script, list)):
        assert node.fetched(*script).report.exit == 6
    assert (node.out / "current/config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("then", "code"),
    [(f"{EPOCH}.4", 6), (f"{EPOCH}.5", 6), (f"{EPOCH}.6", 0), (f"{OLD}.99", 6), (f"{NEW}.1", 0), (None, 0)],
)
def test_a_node_never_goes_back_behind_what_it_remembers(node: Node, then: str | None, code: int) -> None:
    assert node.fetched(REGISTERED, files([CONFIG], f"{EPOCH}.5")).report.exit == 0
    ending = node.fetched(REGISTERED, files([ArtifactFile("/config.yaml", "other\n")], then))
    assert ending.report.exit == code
    assert (node.out / "current/config.yaml").read_text() == ("other\n" if code == 0 else "id: node-1\n")
    if code and then:
        assert then in ending.report.message
        assert f"{EPOCH}.5" in ending.report.message
        assert ending.hint.endswith(f"cfgsync store new-epoch --store URL --after {EPOCH}")
        assert f"--store memory:{EPOCH}" in ending.hint
    if then and Version.parse(then).epoch == NEW:
        assert any("new epoch" in note for note in node.notes)


def test_an_answer_without_a_generation_does_not_make_a_node_forget(node: Node) -> None:
    stripped = files([ArtifactFile("/config.yaml", "no header\n")])
    with ScriptedServer(
        [REGISTERED, files([CONFIG], generation=f"{EPOCH}.2"), REGISTERED, stripped]
    ) as server:
        assert node.fetch(server.url).report.exit == 0
        assert node.fetch(server.url).report.exit == 0
    assert "names no generation" in node.notes[-1]
    with ScriptedServer([REGISTERED, files([CONFIG], generation=f"{EPOCH}.1")]) as server:
        assert node.fetch(server.url).report.exit == 6
    with ScriptedServer([REGISTERED, files([CONFIG], generation=f"{EPOCH}.2")]) as server:
        assert node.fetch(server.url).report.exit == 0


def test_inv_6_the_same_generation_with_the_same_files_is_no_alarm_and_with_others_it_is(node: Node) -> None:
    for _ in range(2):
        assert node.fetched(REGISTERED, files([CONFIG], f"{EPOCH}.5")).report.exit == 0
    other = files([ArtifactFile("/config.yaml", "other\n")], f"{EPOCH}.5")
    ending = node.fetched(REGISTERED, other)
    assert (ending.report.exit, ending.report.reason) == (6, "integrity")
    assert (node.out / "current/config.yaml").read_text() == "id: node-1\n"
    cached = node.state.cached()
    assert cached is not None
    assert [file.content for file in cached.payload.files] == ["id: node-1\n"]


def acknowledged(server: ScriptedServer) -> list[Acknowledgement]:
    return [decode_acknowledgement(heard.body) for heard in server.heard if heard.path == "/ack"]


def test_what_was_written_is_acknowledged_with_the_nodes_secret(node: Node) -> None:
    with ScriptedServer([REGISTERED, files([CONFIG], f"{EPOCH}.5"), Says(204)]) as server:
        digest = node.fetch(server.url).report.digest
    assert acknowledged(server) == [Acknowledgement("node-1", f"{EPOCH}.5", str(digest), "applied")]
    assert server.heard[-1].headers["authorization"] == f"Bearer {node.state.secret()}"


def test_a_disk_that_refuses_is_acknowledged_as_failed_with_its_reason(node: Node) -> None:
    node.out.write_text("a file where a directory must be")
    with ScriptedServer([REGISTERED, files([CONFIG], f"{EPOCH}.5"), Says(204)]) as server:
        ending = node.fetch(server.url)
    (told,) = acknowledged(server)
    assert (told.status, told.generation, told.reason) == ("failed", f"{EPOCH}.5", ending.report.message)


def test_a_refused_step_back_is_acknowledged_with_the_generation_that_was_refused(node: Node) -> None:
    node.fetched(REGISTERED, files([CONFIG], f"{EPOCH}.5"))
    with ScriptedServer([REGISTERED, files([CONFIG], f"{EPOCH}.4"), Says(204)]) as server:
        ending = node.fetch(server.url)
    (told,) = acknowledged(server)
    assert (told.status, told.generation, told.reason) == ("failed", f"{EPOCH}.4", ending.report.message)


def test_a_source_without_generations_is_told_the_digest_alone(node: Node) -> None:
    with ScriptedServer([REGISTERED, files([CONFIG]), Says(204)]) as server:
        node.fetch(server.url)
    digest = ArtifactSet([CONFIG]).digest
    assert server.paths == ["/register", "/node", "/ack"]
    assert json.loads(server.heard[2].body) == {"identifier": "node-1", "digest": digest, "status": "applied"}


def test_files_of_a_source_without_generations_that_are_not_whole_are_told_as_failed(node: Node) -> None:
    wrong = f"sha256-{'0' * 64}"
    with ScriptedServer([REGISTERED, files([CONFIG], etag=wrong), Says(204)]) as server:
        assert node.fetch(server.url).report.exit == 6
    told = json.loads(server.heard[2].body)
    assert (told["digest"], told["status"], "generation" in told) == (wrong, "failed", False)


@pytest.mark.timed
@pytest.mark.parametrize(
    "act",
    [
        error(404, "not_found"),
        error(409, "stale_generation"),
        error(503, "unavailable"),
        Cut(),
        Says(200, after=60),
    ],
    ids=["404", "409", "503", "cut", "silence"],
)
def test_an_acknowledgement_that_fails_does_not_disturb_the_node(node: Node, act: Act) -> None:
    began = time.monotonic()
    assert node.fetched(REGISTERED, files([CONFIG], f"{EPOCH}.5"), act).report.exit == 0
    assert time.monotonic() - began < 3
    assert (node.out / "current/config.yaml").read_text() == "id: node-1\n"


def test_routed_files_land_where_the_operator_says(node: Node, tmp_path: Path) -> None:
    outputs = ArtifactOutputMap().route("/config.yaml", str(tmp_path / "etc" / "my.yaml"))
    with ScriptedServer([REGISTERED, files([CONFIG])]) as server:
        assert node.fetch(server.url, outputs=outputs).report.files == (str(tmp_path / "etc" / "my.yaml"),)
    assert (tmp_path / "etc" / "my.yaml").read_text() == "id: node-1\n"


def test_a_file_without_a_route_is_an_error_and_nothing_is_written(node: Node, tmp_path: Path) -> None:
    outputs = ArtifactOutputMap().route("/config.yaml", str(tmp_path / "my.yaml"))
    with ScriptedServer([REGISTERED, files([CONFIG, KEY])]) as server:
        assert node.fetch(server.url, outputs=outputs).report.exit == 6
    assert not (tmp_path / "my.yaml").exists()


def test_a_disk_that_refuses_is_exit_8_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a directory must be")
    with ScriptedServer([REGISTERED, files([CONFIG])]) as server:
        ending = Node(tmp_path).fetch(server.url)
        assert server.heard == [], "a secret that cannot be kept must not be used"
    assert (ending.report.exit, ending.report.reason) == (8, "disk")
    assert ending.hint


def test_a_target_that_cannot_be_written_is_exit_8(node: Node) -> None:
    node.out.write_text("a file where a directory must be")
    assert node.fetched(REGISTERED, files([CONFIG])).report.exit == 8
    assert node.out.read_text() == "a file where a directory must be"


@pytest.mark.parametrize(
    "act",
    [
        Cut(b"HTTP/1.1 200 OK\r\nContent-Le"),
        Cut(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"schema_version":1,'),
        Cut(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"sch'),
    ],
)
def test_half_an_answer_is_asked_again_after_registering_again(node: Node, act: Cut) -> None:
    with ScriptedServer([REGISTERED, act, REGISTERED, files([CONFIG])]) as server:
        assert node.fetch(server.url).report.exit == 0
    assert server.paths == ["/register", "/node", "/register", "/node", "/ack"]


@pytest.mark.parametrize(
    "head", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"]
)
def test_an_answer_that_ends_with_its_connection_is_read_to_its_end(node: Node, head: bytes) -> None:
    last = Cut(head + files([CONFIG]).body)
    with ScriptedServer([Cut(b"HTTP/1.0 202 Accepted\r\n\r\n"), last]) as server:
        assert node.fetch(server.url).report.exit == 0
    assert [heard.connection for heard in server.heard] == [1, 2]


@pytest.mark.timed
@pytest.mark.parametrize(
    "act",
    [
        Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000, every=0.05),
        Drip(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 90, every=0.02),
        Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", every=0.0),
        Says(200, after=60),
    ],
    ids=["body", "headers", "stopped", "silence"],
)
def test_no_slowness_of_a_server_outlives_the_wait(node: Node, act: Act) -> None:
    began = time.monotonic()
    assert node.fetched(act, wait=0.7).report.exit == 7
    assert time.monotonic() - began < 1.5


def test_a_server_that_starts_late_is_found(node: Node) -> None:
    with ScriptedServer([Says(200)]) as gone:
        port, url = gone.port, gone.url
    import threading

    late: list[ScriptedServer] = []

    def start() -> None:
        late.append(ScriptedServer([REGISTERED, files([CONFIG])], port).__enter__())

    timer = threading.Timer(0.5, start)
    timer.start()
    try:
        assert node.fetch(url).report.exit == 0
    finally:
        timer.join()
        late[0].__exit__(None, None, None)
    assert node.waited == ["connection refused"]


@pytest.mark.timed
def test_an_original_server_is_fetched_from_by_polling(node: Node) -> None:
    with OriginalServer() as server:
        assert node.fetch(server.url).report.generation is None
        assert server.paths == ["/register", "/node"]
        server.quorum = 2
        began = time.monotonic()
        assert node.fetch(server.url, wait=1).report.exit == 3
        assert time.monotonic() - began < 1.5
        assert server.paths[2:] == ["/register", "/node"] * (len(server.paths[2:]) // 2)
    assert (node.out / "current/config.yaml").read_text() == "id: node-1\n"


def test_who_waits_is_told_of_every_change_once(node: Node) -> None:
    def quorum(have: int, *missing: str) -> Says:
        condition = {"name": "quorum", "have": have, "need": 3, "missing": missing}
        return error(425, "not_ready", registered=True, retry_after=0, conditions=[condition])

    one, two = quorum(1, "b", "c"), quorum(2, "c")
    assert node.fetched(REGISTERED, one, one, two, two, files([CONFIG])).report.exit == 0
    assert node.waited == ["1 of 3 nodes, missing b, c", "2 of 3 nodes, missing c"]


def test_the_environment_has_no_proxy_for_us_and_cookies_are_not_kept(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with ScriptedServer([Says(202, headers={"Set-Cookie": "a=b"}), files([CONFIG])]) as server:
        assert node.fetch(server.url).report.exit == 0
    assert "cookie" not in server.heard[1].headers


def test_a_path_in_the_url_stands_before_the_routes(node: Node) -> None:
    with ScriptedServer([REGISTERED, files([CONFIG])]) as server:
        assert node.fetch(server.url + "/prefix/").report.exit == 0
    assert server.paths == ["/prefix/register", "/prefix/node", "/prefix/ack"]


def test_the_address_is_the_one_that_routes_to_the_server() -> None:
    assert own_address(ServerUrl.parse("http://127.0.0.1:9"), 0) == "127.0.0.1"
    assert own_address(ServerUrl.parse("http://localhost:9"), 0) == "127.0.0.1"


async def test_a_program_fetches_and_writes_in_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def ready(heard: Heard) -> Says:
        return REGISTERED if heard.path == "/register" else files([CONFIG])

    with ScriptedServer(ready) as server:
        registration = NodeRegistration("node-1", "127.0.0.1").with_metadata({"network_port": 3000})
        outputs = ArtifactOutputMap().route("/config.yaml", "node-data/node-1/config.yaml")
        written = await fetch_and_write_artifacts(registration, server.url, outputs)
    assert Path("node-data/node-1/config.yaml").read_text() == "id: node-1\n"
    assert written.changed
    assert os.fspath(written.paths[0]) == "node-data/node-1/config.yaml"


@pytest.mark.parametrize(
    ("outputs", "wait", "words"),
    [
        ("out", 1, r"outputs is an OutputDirectory\(DIR\), or an ArtifactOutputMap\(\), not str"),
        (ArtifactOutputMap(), -1, "wait=-1: give a number of seconds, 0 or more"),
    ],
)
async def test_arguments_that_mean_nothing_are_refused_before_anything_is_asked(
    outputs: Any, wait: float, words: str
) -> None:
    with ScriptedServer([]) as server:
        with pytest.raises((TypeError, ValueError), match=words):
            await fetch_and_write_artifacts(NodeRegistration("a", "10.0.0.1"), server.url, outputs, wait=wait)
        assert server.paths == []
