"""A name with several addresses: each has its chance, and the one that answers is kept."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile
from cfgsync_core import NodeRegistration, ServerUrl
from cfgsync_core.node import Lost, Request
from cfgsync_runtime.node.fetch import fetch
from cfgsync_runtime.node.network import addresses
from cfgsync_runtime.node.network.own_address import own_address
from cfgsync_runtime.node.network.transport import HttpTransport
from cfgsync_runtime.node.outputs import OutputDirectory
from tests.scripted_server import Cut, Heard, Says, ScriptedServer, files

REAL = socket.getaddrinfo


def ready(heard: Heard) -> Says:
    return Says(202) if heard.path == "/register" else files([ArtifactFile("/a", "x")])


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def closed() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def named(monkeypatch: pytest.MonkeyPatch, *ports: int) -> ServerUrl:
    """A name whose addresses are these ports of this machine, as a name server would give them."""

    def found(host: object, port: int, **more: object) -> list[object]:
        kind = more.get("type", socket.SOCK_STREAM)
        return [one for each in ports for one in REAL("127.0.0.1", each, type=kind)]  # type: ignore[call-overload]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", found)
    return ServerUrl.parse("http://several.example:4400")


def fetched(at: ServerUrl, tmp_path: Path, wait: float) -> tuple[int, float]:
    began = time.monotonic()
    node = NodeRegistration("n", "10.0.0.1")
    ending = fetch(node, at, OutputDirectory(str(tmp_path / "out")), None, wait=wait)
    return ending.report.exit, time.monotonic() - began


@pytest.mark.parametrize(
    "order", [("silent", "closed", "good"), ("closed", "good", "silent"), ("stranger", "good")]
)
def test_every_address_has_its_chance_within_the_wait(
    order: tuple[str, ...], silent: int, closed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        good = stack.enter_context(ScriptedServer(ready))
        page = Says(200, body=b"<html>", headers={"Content-Type": "text/html"})
        stranger = stack.enter_context(ScriptedServer(lambda heard: page))
        ports = {"silent": silent, "closed": closed}
        ports |= {"good": ServerUrl.parse(good.url).port, "stranger": ServerUrl.parse(stranger.url).port}
        code, took = fetched(named(monkeypatch, *(ports[name] for name in order)), tmp_path, 6)
        assert code == 0
        assert took < 5
        assert [heard.path for heard in good.heard] == ["/register", "/node"]


def test_the_address_that_answered_is_asked_first_and_others_when_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = Request("/node", {}, b"{}", 5.0, 5.0)
    with ExitStack() as stack, ScriptedServer(ready) as second:
        first = stack.enter_context(ScriptedServer(ready))
        at = named(monkeypatch, ServerUrl.parse(first.url).port, ServerUrl.parse(second.url).port)
        with HttpTransport(at) as transport:
            transport.send(request)
            stack.close()
            transport.close()
            transport.send(request)
            transport.close()
            transport.send(request)
            assert len(second.heard) == 2


def test_a_name_server_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_, **__: [never.wait(30)][:0])
    began = time.monotonic()
    with pytest.raises(Lost), HttpTransport(ServerUrl.parse("http://h.example")) as transport:
        transport.send(Request("/node", {}, b"{}", 0.3, 0.3))
    assert time.monotonic() - began < 3
    monkeypatch.setattr(addresses, "RESOLVE_WITHIN", 0.2)
    never.set()
    monkeypatch.setattr(addresses.socket, "getaddrinfo", REAL)
    assert own_address(ServerUrl.parse("http://127.0.0.1:1"), 0) == "127.0.0.1"


def test_a_name_that_cannot_be_resolved_is_said_once_and_not_at_each_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = []

    def unknown(*_: object, **more: object) -> list[object]:
        tries.append(more)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(addresses.socket, "getaddrinfo", unknown)
    said: list[str] = []
    with pytest.raises(Lost, match=r"no route to nohost\.example: name or service not known"):
        own_address(ServerUrl.parse("https://nohost.example:4400"), 0.5, said.append)
    assert len(tries) > 1
    assert said == ["no route to nohost.example: name or service not known"]


def test_of_several_servers_one_that_cannot_serve_is_not_asked_again_while_another_can(
    closed: int, tmp_path: Path
) -> None:
    away = Says(503, body=b'{"code":"unavailable","message":"draining"}', headers={"Retry-After": "0"})
    with ScriptedServer(lambda heard: away) as draining, ScriptedServer(ready) as good:
        at = ServerUrl.parse_several(f"http://127.0.0.1:{closed}, {draining.url},{good.url}/")
        assert fetched(at, tmp_path, 10)[0] == 0
        assert [heard.path for heard in draining.heard] == ["/register"]
        assert [heard.path for heard in good.heard] == ["/register", "/node"]
        assert good.heard[0].headers["host"] == good.url.removeprefix("http://")


def test_the_end_names_why_each_of_several_servers_did_not_answer(closed: int, tmp_path: Path) -> None:
    with ScriptedServer([Cut()]) as cutting:
        refusing = f"http://127.0.0.1:{closed}"
        said: list[str] = []
        ending = fetch(
            NodeRegistration("n", "10.0.0.1"),
            ServerUrl.parse_several(f"{cutting.url},{refusing}"),
            OutputDirectory(str(tmp_path / "out")),
            None,
            wait=2,
            waiting=said.append,
        )
        assert ending.report.exit == 7
        why = f"{cutting.url}: the connection was closed without an answer; {refusing}: connection refused"
        assert ending.report.message == f"no answer from the server after 2 s: {why}"
        assert len(cutting.heard) > 1
        assert len(said) <= 2, "a reason is said when it changes, not at each try"


def test_a_name_that_cannot_be_resolved_is_no_reason_not_to_ask_the_other_server(tmp_path: Path) -> None:
    with ScriptedServer(ready) as good:
        at = ServerUrl.parse_several(f"http://nobody.invalid:1,{good.url}")
        assert own_address(at, 0) == "127.0.0.1"
        assert fetched(at, tmp_path, 10)[0] == 0
