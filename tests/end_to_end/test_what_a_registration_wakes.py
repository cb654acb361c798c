"""What registering does to the others, over HTTP: an equal one nothing, a changed one the next generation, and no answer
is older than what was registered before its question."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import Place, Reply, Server, body, eventually

HERE = Path(__file__).parent
HOLD = {"Prefer": "wait=30"}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


@pytest.fixture
def server(place: Place) -> Server:
    """Ready with two nodes; `calls(place)` tells how many each call of the materializer saw."""
    calls = str(place.directory / "calls")
    return place.serve("application:Fleet", cwd=HERE, environment={"NODES": "2", "CALLS": calls})


def calls(place: Place) -> list[int]:
    return [int(line.split()[1]) for line in (place.directory / "calls").read_text().splitlines()]


def register(server: Server, identifier: str, metadata: object = None, ip: str = "127.0.0.1") -> str:
    """Register, and return the version that the server told."""
    reply = server.ask("POST", "/register", body(identifier, metadata, ip))
    assert (reply.status, reply.body) == (202, b"")
    return reply.headers["cfgsync-version"]


def node(server: Server, identifier: str, known: str | None = None, hold: bool = False) -> Reply:
    headers = {"If-None-Match": known} if known else {}
    return server.ask("POST", "/node", body(identifier), headers | (HOLD if hold else {}))


def held(
    server: Server, pool: ThreadPoolExecutor, identifier: str, known: str | None = None
) -> Future[Reply]:
    """A question that the server holds by now."""
    waiting = server.status()["waiting"]
    asked = pool.submit(node, server, identifier, known, True)
    eventually(lambda: server.status()["waiting"] == waiting + 1)
    return asked


def number(reply: Reply) -> int:
    return int(reply.headers["cfgsync-generation"].rpartition(".")[2])


def members(reply: Reply) -> dict[str, object]:
    assert reply.status == 200
    found: dict[str, object] = json.loads(reply.words["files"][1]["content"])["members"]
    return found


def test_an_equal_registration_before_anything_is_ready_wakes_nobody(
    place: Place, server: Server, pool: ThreadPoolExecutor
) -> None:
    first = register(server, "node-1", {"port": 1, "name": "é"})
    asked = held(server, pool, "node-1")
    assert calls(place) == [1]
    equal = b'{ "metadata": {"name":"\\u00e9", "port":1}, "ip":"127.0.0.1", "identifier":"node-1" }'
    assert server.ask("POST", "/register", equal).headers["cfgsync-version"] == first
    time.sleep(0.4)  # a run would have begun after 0.1 s
    assert calls(place) == [1]
    assert not asked.done()
    assert server.status()["revision"] == 1
    register(server, "node-2")
    assert members(asked.result(30)).keys() == {"node-1", "node-2"}
    assert calls(place) == [1, 2]


def test_an_equal_registration_of_a_node_that_is_served_makes_no_revision_no_run_no_answer(
    place: Place, server: Server, pool: ThreadPoolExecutor
) -> None:
    register(server, "node-1")
    version = register(server, "node-2", {"port": 2})
    ready = node(server, "node-1", hold=True)
    runs = calls(place)
    asked = [held(server, pool, name, node(server, name).headers["etag"]) for name in ("node-1", "node-2")]
    for _ in range(20):
        assert register(server, "node-2", {"port": 2}) == version
    time.sleep(0.4)
    assert calls(place) == runs
    assert not any(question.done() for question in asked)
    after = node(server, "node-1")
    assert (after.headers["cfgsync-generation"], after.body) == (
        ready.headers["cfgsync-generation"],
        ready.body,
    )
    assert server.status()["waiting"] == 2
    assert server.status()["revision"] == 2
    register(server, "node-2", {"port": 3})  # and these held questions are ones that a change wakes
    assert [number(question.result(30)) for question in asked] == [2, 2]


@pytest.mark.parametrize(
    ("metadata", "ip"), [({"port": 9}, "127.0.0.1"), ({"port": 1}, "127.0.0.9"), (None, "127.0.0.1")]
)
def test_a_changed_address_or_metadata_makes_the_next_generation_and_wakes_who_waits(
    server: Server, pool: ThreadPoolExecutor, metadata: object, ip: str
) -> None:
    register(server, "node-1", {"port": 1})
    register(server, "node-2")
    before = {name: node(server, name, hold=True) for name in ("node-1", "node-2")}
    asked = held(server, pool, "node-2", before["node-2"].headers["etag"])
    register(server, "node-1", metadata, ip)
    woken = asked.result(30)
    own = node(server, "node-1")
    assert number(woken) == number(own) == number(before["node-1"]) + 1
    assert members(woken)["node-1"] == metadata
    assert f"node-1 {ip} " in own.words["files"][0]["content"]
    assert own.headers["etag"] != before["node-1"].headers["etag"]


def test_what_was_registered_before_a_question_is_in_its_answer(server: Server) -> None:
    register(server, "node-0")
    register(server, "node-1")
    for turn in range(25):
        register(server, "node-1", {"turn": turn})
        reply = node(server, "node-1")  # not held: the question alone waits for the run that covers it
        assert reply.status == 200
        assert members(reply)["node-1"] == {"turn": turn}


def test_a_node_that_has_its_files_keeps_them_while_strangers_register(server: Server) -> None:
    register(server, "node-1")
    register(server, "node-2")
    generation = number(node(server, "node-1", hold=True))
    register(server, "stranger", {"raise": "no files for anybody"})
    stranger = node(server, "stranger")
    assert (stranger.status, stranger.words["code"]) == (500, "internal")
    assert number(node(server, "node-1")) == generation
    assert members(node(server, "node-1")).keys() == {"node-1", "node-2"}
