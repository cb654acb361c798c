"""A command that asks a server which is just being started waits until it listens; the reader of a page pastes both lines at once."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cfgsync_core import ServerUrl
from cfgsync_runtime.access.admin_socket import places
from cfgsync_runtime.cli.parts import server_client
from cfgsync_runtime.cli.parts.messages import NoAnswer
from cfgsync_runtime.cli.parts.server_client import OperatorClient, ServerClient
from cfgsync_runtime.cli.parts.server_flags import AskedServer
from tests.docs.blocks import free_ports
from tests.scripted_server import Says, ScriptedServer
from tests.terminals import Terminal

LIST = b'{"generations":[]}'


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server_client, "STARTS_WITHIN", 60.0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def port() -> int:
    return free_ports()[0]


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> dict[int, Callable[[], object]]:
    """What happens before a try, by its number: the client's pauses are counted, and take no time."""
    planned: dict[int, Callable[[], object]] = {}
    count = 0

    def pause(_: float) -> None:
        nonlocal count
        count += 1
        planned.get(count, lambda: None)()

    monkeypatch.setattr(server_client.time, "sleep", pause)
    return planned


class OnSocket:
    """One answer to each POST of `{}` at a Unix socket."""

    def __init__(self, path: str) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            opened, _ = self._listener.accept()
            with opened, opened.makefile("rb") as received:
                while received.readline().strip():
                    pass
                if received.read(2) == b"{}":
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(LIST)}\r\nConnection: close\r\n\r\n"
                    opened.sendall(head.encode() + LIST)


def test_a_server_that_listens_a_moment_later_is_asked_again_and_each_request_is_sent_once(
    port: int, tries: dict[int, Callable[[], object]]
) -> None:
    server = ScriptedServer([Says(200, LIST)], port)
    tries[3] = server.__enter__
    with ServerClient(ServerUrl("http", "127.0.0.1", port)) as client:
        assert client.post("/admin/evict", b"{}").body == LIST
    assert server.paths == ["/admin/evict"]
    server.__exit__(None, None, None)


def test_an_operators_command_finds_the_socket_of_a_server_that_opens_it_later(
    port: int, tries: dict[int, Callable[[], object]]
) -> None:
    tries[2] = lambda: OnSocket(places(port)[0])
    with OperatorClient(AskedServer(ServerUrl("http", "127.0.0.1", port))) as client:
        assert client.post("/admin/evict", b"{}").body == LIST
        assert client.at == places(port)[0]


def test_a_given_socket_that_is_not_there_yet_is_asked_again(
    port: int, tmp_path: Path, tries: dict[int, Callable[[], object]]
) -> None:
    path = str(tmp_path / "given.sock")
    tries[2] = lambda: OnSocket(path)
    with OperatorClient(AskedServer(ServerUrl("http", "127.0.0.1", port), path)) as client:
        assert client.post("/admin/evict", b"{}").body == LIST


@pytest.mark.parametrize("status", [401, 403, 426])
def test_a_port_that_listens_before_its_socket_refuses_nobody_who_may_use_the_socket(
    port: int, status: int
) -> None:
    def opens_its_socket(_: object) -> Says:
        OnSocket(places(port)[0])
        return Says(status)

    asked = AskedServer(ServerUrl("http", "127.0.0.1", port))
    with ScriptedServer(opens_its_socket, port), OperatorClient(asked) as client:
        assert client.post("/admin/evict", b"{}").body == LIST


def test_a_server_that_has_answered_and_goes_is_lost_at_once(port: int) -> None:
    with ScriptedServer([Says(200, LIST, {"Connection": "close"})], port) as server:
        client = ServerClient(ServerUrl.parse(server.url))
        client.post("/admin/evict", b"{}")
    began = time.monotonic()
    while True:  # the first one may still meet the closed connection
        with pytest.raises(NoAnswer) as lost:
            client.post("/admin/evict", b"{}")
        if "connection refused" in str(lost.value):
            break
    assert time.monotonic() - began < 30


def test_a_server_that_never_listens_is_exit_7_when_the_time_is_over(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server_client, "STARTS_WITHIN", 0.3)
    with pytest.raises(NoAnswer, match="connection refused") as lost:
        ServerClient(ServerUrl("http", "127.0.0.1", port)).post("/x", b"")
    assert (lost.value.code, lost.value.again) == (7, True)
    assert capsys.readouterr() == ("", ""), "off a terminal nothing is printed meanwhile"


def test_a_terminal_shows_what_the_command_waits_for_and_is_left_as_it_was(port: int, tmp_path: Path) -> None:
    words = [Path(sys.executable).parent / "cfgsync", "status", "--server", f"http://127.0.0.1:{port}"]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    with Terminal(words, environment=environment, cwd=tmp_path, columns=120) as terminal:
        terminal.until(f"waiting: no answer from http://127.0.0.1:{port}: connection refused")
        assert terminal.end() == 7
    assert terminal.screen.text.splitlines() == [
        f"no answer from http://127.0.0.1:{port}: connection refused",
        "is the server running, and is --server right?",
    ]
