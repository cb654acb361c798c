"""Ctrl-C, as a key in a real terminal, in the middle of each command: exit 130, no traceback, nothing half-written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import BIN, Place, ask, body, eventually
from tests.scripted_server import Heard, Says, ScriptedServer
from tests.terminals import Terminal

WAITING = """
from cfgsync_adapter import NotReady

class Waiting:
    def materialize_snapshot(self, registrations):
        return NotReady("waiting for somebody else")
"""
SLOW = """
import os, time

class Slow:
    def materialize_snapshot(self, registrations):
        with open("running", "w") as file:
            file.write(str(os.getpid()))
        time.sleep(600)
"""

Start = Callable[..., Terminal]


@pytest.fixture
def terminal(place: Place) -> Start:
    """A command in a terminal of forty columns, where each mistake shows."""

    def start(*words: str, command: str = "cfgsync", more: dict[str, str] | None = None) -> Terminal:
        return Terminal(
            [BIN / command, *words], environment=place.environment(more), cwd=place.directory, columns=40
        )

    return start


def interrupted(shown: Terminal) -> str:
    """Press Ctrl-C, and return what is on the screen at the end."""
    shown.ctrl_c()
    assert shown.end() == 130, shown.written
    assert "Traceback" not in shown.written
    assert "Exception" not in shown.written
    screen = shown.screen
    assert not screen.is_alternate
    assert not screen.is_cursor_hidden
    return screen.text.replace("^C", "").strip()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_fetch_while_it_waits(place: Place, terminal: Start) -> None:
    place.write("app.py", WAITING)
    server = place.serve("app:Waiting", "--store", "memory:")
    words = [
        "fetch",
        "--server",
        server.url,
        "--id",
        "n",
        "--out",
        "out",
        "--state",
        "state",
        "--",
        "touch",
        "started",
    ]
    with terminal(*words) as shown:
        shown.until("waiting: for somebody else")
        assert interrupted(shown) == ""
    assert not (place.directory / "started").exists()
    assert not (place.directory / "out/current").exists()
    assert below(place.directory / "state") == ["secret"]


def test_fetch_that_stays(place: Place, terminal: Start) -> None:
    place.write("bundle.yaml", "nodes: [{identifier: n, files: [{path: /a, content: a}]}]\n")
    server = place.serve("--bundle", "bundle.yaml")
    with terminal("fetch", "--server", server.url, "--id", "n", "--out", "out", "--watch") as shown:
        shown.until("1 file in place")
        assert interrupted(shown).endswith("n: 1 file in place")
    assert (place.directory / "out/current/a").read_text() == "a"


def test_a_server_tells_who_waits_to_come_back_and_its_store_is_whole(place: Place, terminal: Start) -> None:
    place.write("app.py", WAITING)
    with terminal("serve", "app:Waiting", "--store", "sqlite:s.db", "--port", "0") as shown:
        shown.until(lambda text: "store sqlite:s.db" in text.replace("\r\n", ""))
        url = shown.screen.text.replace("\n", "").partition(" on ")[2].partition(",")[0]
        place.fetch(url, "n", "--wait", "60")
        port = int(url.rpartition(":")[2])
        eventually(lambda: ask(port, "GET", "/status").words["waiting"] == 1)
        ended = "".join(interrupted(shown).split())  # of 40 columns
        assert "SIGINT:shuttingdown;waiting" in ended
    assert place.run("store", "check", "--store", "sqlite:s.db").returncode == 0


def test_a_check_ends_with_the_materializer_s_process(place: Place, terminal: Start) -> None:
    place.write("app.py", WAITING + SLOW)
    server = place.serve("app:Waiting", "--store", "memory:")
    assert server.ask("POST", "/register", body("n")).status == 202
    assert place.run("status", "--save-snapshot", "fleet.json", "--server", server.url).returncode == 0
    with terminal("check", "app:Slow", "--snapshot", "fleet.json") as shown:
        running = place.directory / "running"
        eventually(lambda: running.exists() and running.read_text() != "")
        assert interrupted(shown) == ""
    eventually(lambda: gone(int(running.read_text())))


HANGS = Says(200, b"{}", after=600.0)
TOLD = Says(
    200,
    b'{"generation":null,"revision":1,"registered":1,"waiting":0,"state":"not_ready","reason":"alone","converged":false,"nodes":[]}',
)


@pytest.mark.parametrize(
    ("words", "says", "seen"),
    [
        (["status"], HANGS, ""),
        (["status", "--json"], HANGS, ""),
        (["status", "--wait-applied"], TOLD, "waiting: no generation yet: alone"),
        (["status", "--watch"], TOLD, "not ready: alone"),
        (["status", "--save-snapshot", "fleet.json"], HANGS, ""),
        (["node", "list"], HANGS, ""),
        (["node", "evict", "n"], HANGS, ""),
        (["node", "replace", "n", "--clear"], HANGS, ""),
        (["generation", "list"], HANGS, ""),
        (["generation", "diff"], HANGS, ""),
        (["generation", "rebuild"], HANGS, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_whoever_asks_a_server(
    place: Place, terminal: Start, words: list[str], says: Says, seen: str
) -> None:
    before = below(place.directory)
    with ScriptedServer([says]) as server, terminal(*words, "--server", server.url) as shown:
        if seen:
            shown.until(seen)
        else:
            eventually(lambda: bool(server.heard))
        left = interrupted(shown)
    assert left in ("", "generation -, 1 registered, 0 waiting, 0\n  applied\nnot ready: alone")  # 40 columns
    assert below(place.directory) == before


def test_the_original_s_client_while_it_waits(place: Place, terminal: Start) -> None:
    def told(heard: Heard) -> Says:
        return (
            Says(202) if heard.path == "/register" else Says(425, b'{"code":"not_ready","message":"not yet"}')
        )

    with ScriptedServer(told) as server:
        more = {"CFG_SERVER_ADDR": server.url, "CFG_FILE_PATH": "config.yaml"}
        with terminal(command="cfgsync-client", more=more) as shown:
            shown.until("waiting: not yet")
            assert interrupted(shown) == ""
    assert not (place.directory / "config.yaml").exists()


def test_the_original_s_server(place: Place, terminal: Start) -> None:
    place.write("bundle.yaml", "nodes: [{identifier: n, files: [{path: /a, content: a}]}]\n")
    place.write("server.yaml", "port: 0\nsource: {kind: static, artifacts_path: bundle.yaml}\n")
    with terminal("server.yaml", command="cfgsync-server") as shown:
        shown.until(lambda text: "serving" in text and "http://127.0.0.1:" in text.replace("\r\n", ""))
        interrupted(shown)
