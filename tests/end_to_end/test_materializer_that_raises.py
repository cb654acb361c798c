"""An exception in the application: a sentence for who has nothing, the last good files for who has, no traceback."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import Place, Reply, Server, body, ended, eventually

HERE = Path(__file__).parent
SENTENCE = "port 99999 is no port"
LINE = (HERE / "application.py").read_text().partition("raise RuntimeError(")[0].count("\n") + 1
WHERE = f"RuntimeError in application.py, line {LINE}"
SAID = f"failed to materialize config snapshot: {WHERE}"
BODY = b'{"code":"internal","message":"%s"}' % SAID.encode()


@pytest.fixture
def server(place: Place) -> Server:
    return place.serve("application:Fleet", cwd=HERE)


def register(server: Server, identifier: str, metadata: object = None) -> None:
    assert server.ask("POST", "/register", body(identifier, metadata)).status == 202


def node(server: Server, identifier: str, hold: int = 0) -> Reply:
    headers = {"Prefer": f"wait={hold}"} if hold else {}
    return server.ask("POST", "/node", body(identifier), headers)


def test_500_for_who_has_no_generation_and_the_last_good_files_for_who_has(server: Server) -> None:
    register(server, "node-1")
    good = node(server, "node-1")
    assert good.status == 200
    register(server, "node-2", {"raise": SENTENCE})
    failed = node(server, "node-2")
    assert (failed.status, failed.body) == (500, BODY)
    assert failed.headers["content-type"] == "application/json"
    again = node(server, "node-1")
    assert (again.status, again.body) == (200, good.body)
    assert again.headers["cfgsync-generation"] == good.headers["cfgsync-generation"]
    unchanged = server.ask("POST", "/node", body("node-1"), {"If-None-Match": good.headers["etag"]})
    assert unchanged.status == 304


def test_the_status_says_where_the_log_says_why_and_neither_shows_a_traceback(
    place: Place, server: Server
) -> None:
    register(server, "node-1", {"raise": SENTENCE})
    assert node(server, "node-1").body == BODY
    assert server.status()["reason"] == SAID
    assert server.status("node-1")["reason"] == f"registered; {SAID}"
    shown = place.run("status", "--server", server.url)
    assert shown.returncode == 0
    assert f"failed: {SAID}" in " ".join(shown.stdout.split())
    assert SENTENCE not in shown.stdout
    assert "Traceback" not in shown.stdout + shown.stderr
    assert server.stop() == 0
    eventually(lambda: "Traceback (most recent call last):" in server.log)
    assert f"WARNING the materializer failed: {SENTENCE} ({WHERE})" in server.log
    assert server.log.count("Traceback (most recent call last):") == 1


def test_a_fetch_that_waits_for_a_materializer_that_raises_ends_with_3_and_two_lines(
    place: Place, server: Server
) -> None:
    register(server, "node-0", {"raise": "one\n  Traceback (most recent call last):\ntwo"})
    fetch = place.run(*place.fetching(server.url, "node-1", "--wait", "1.5"))
    assert fetch.returncode == 3
    *_, happened, do = fetch.stderr.splitlines()
    assert happened == f"no files after 1.5 s: {SAID}"
    assert do == "fix the materializer on the server; `cfgsync status` shows its reason"
    assert not place.current("node-1").exists()


def test_who_is_held_is_told_at_once_and_boots_when_the_node_that_broke_it_is_mended(
    place: Place, server: Server
) -> None:
    with ThreadPoolExecutor() as pool:
        register(server, "node-1")
        etag = node(server, "node-1").headers["etag"]
        asked = pool.submit(
            server.ask, "POST", "/node", body("node-1"), {"Prefer": "wait=20", "If-None-Match": etag}
        )
        eventually(lambda: server.status()["waiting"] == 1)
        register(server, "node-2", {"raise": SENTENCE})
        assert node(server, "node-2", hold=20).body == BODY
        assert not asked.done()  # it has good files: a failure is no answer to it
        waiting = place.fetch(server.url, "node-3")
        eventually(lambda: server.status("node-3")["registered"])
        register(server, "node-2", {"port": 80})
        assert asked.result(30).status == 200
        code, said = ended(waiting)
    assert (code, said["status"]) == (0, "ready")
    assert server.status()["reason"] == ""


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("return None", "materialize_snapshot returned NoneType, expected MaterializedArtifacts or NotReady"),
        ("raise SystemExit(3)", "SystemExit in app.py, line 4"),
        ("raise KeyError", "KeyError in app.py, line 4"),
        (
            "return MaterializedArtifacts.from_nodes({'node-1': [ArtifactFile('/a', '1')]})"
            ".with_shared([ArtifactFile('/a', '2')])",
            "/a",
        ),
    ],
)
def test_whatever_a_materializer_does_is_a_sentence_and_the_server_lives(
    place: Place, source: str, sentence: str
) -> None:
    place.write(
        "app.py",
        "from cfgsync_adapter import *\n"
        "class Mine:\n"
        "    def materialize_snapshot(self, registrations):\n"
        f"        {source}\n",
    )
    server = place.serve("app:Mine", "--store", "memory:")
    register(server, "node-1")
    reply = node(server, "node-1")
    assert (reply.status, reply.words["code"]) == (500, "internal")
    assert reply.words["message"].startswith("failed to materialize config snapshot: ")
    assert sentence in reply.words["message"]
    assert server.ask("GET", "/readyz").status == 200
    assert server.stop() == 0
    assert "/cfgsync_" not in server.log, "a frame of ours"
