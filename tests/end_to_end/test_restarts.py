"""A server that ends and comes back: what it serves then, and what those who waited for it see."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import Place, Reply, Server, ask, body, ended, eventually

HERE = Path(__file__).parent

APPLICATION = """
import secrets
from cfgsync_adapter import ArtifactFile, ArtifactSet, MaterializedArtifacts

class Mine:
    {attribute}
    def materialize_snapshot(self, registrations):
        key = secrets.token_hex(16)
        files = ArtifactSet([ArtifactFile("/file", "{text} " + key)])
        return MaterializedArtifacts.from_nodes(dict.fromkeys(registrations.identifiers, files))
"""

RAISING = """
class Mine:
    def materialize_snapshot(self, registrations):
        raise ValueError('bad')
"""


def application(place: Place, text: str, attribute: str = "pass") -> None:
    place.write("app.py", APPLICATION.format(text=text, attribute=attribute))


def register(server: Server, identifier: str) -> None:
    assert server.ask("POST", "/register", body(identifier)).status == 202


def node(server: Server, identifier: str, known: str | None = None) -> Reply:
    headers = {"If-None-Match": known} if known else {}
    return server.ask("POST", "/node", body(identifier), headers)


NODES = [f"node-{n}" for n in range(5)]


def boot(server: Server) -> dict[str, Reply]:
    for name in NODES:
        register(server, name)
    answers = {name: node(server, name) for name in NODES}
    generations = {reply.headers["cfgsync-generation"] for reply in answers.values()}
    if len(generations) > 1:  # the last registration made the newest
        answers = {name: node(server, name) for name in NODES}
    assert {reply.status for reply in answers.values()} == {200}
    return answers


def same(one: Reply, other: Reply) -> bool:
    names = ("cfgsync-generation", "etag", "content-type")
    return one.body == other.body and all(one.headers[name] == other.headers[name] for name in names)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_restart_with_the_same_revision_serves_the_same_bytes_also_of_a_mended_materializer(
    place: Place, end: str
) -> None:
    application(place, "old")
    server = place.serve("app:Mine", "--revision", "1")
    before = boot(server)
    assert all(b"old" in reply.body for reply in before.values())
    server.kill() if end == "kill" else server.stop()
    application(place, "new")
    again = place.serve("app:Mine", "--revision", "1")
    for name in NODES:
        assert same(node(again, name), before[name])
        assert node(again, name, before[name].headers["etag"]).status == 304
    register(again, "node-0")  # as it was: nothing moves
    assert same(node(again, "node-0"), before["node-0"])


def test_a_restart_with_a_new_revision_gives_everybody_the_mended_files_at_once(place: Place) -> None:
    application(place, "old")
    server = place.serve("app:Mine", "--revision", "1")
    before = boot(server)
    assert server.stop() == 0
    application(place, "new")
    mended = place.serve("app:Mine", "--revision", "2")
    after = {name: node(mended, name, before[name].headers["etag"]) for name in NODES}
    assert {reply.status for reply in after.values()} == {200}
    assert all(b"new" in reply.body for reply in after.values())
    old, new = ({reply.headers["cfgsync-generation"] for reply in some.values()} for some in (before, after))
    assert len(old) == len(new) == 1
    (epoch, was), (same_epoch, now) = (text.rsplit(".", 1) for text in (*old, *new))
    assert (same_epoch, int(now)) == (epoch, int(was) + 1)


def test_the_materializers_own_revision_does_the_same(place: Place) -> None:
    application(place, "old", "revision = '2024-1'")
    server = place.serve("app:Mine")
    before = boot(server)
    server.kill()
    application(place, "unnoticed", "revision = '2024-1'")
    server = place.serve("app:Mine")
    assert same(node(server, "node-1"), before["node-1"])
    server.kill()
    application(place, "new", "revision = '2024-2'")
    assert b"new" in node(place.serve("app:Mine"), "node-1").body


def test_a_new_revision_whose_materializer_raises_takes_nothing_away(place: Place) -> None:
    application(place, "old")
    server = place.serve("app:Mine", "--revision", "1")
    before = boot(server)
    server.stop()
    place.write("app.py", RAISING)
    broken = place.serve("app:Mine", "--revision", "2")
    assert same(node(broken, "node-1"), before["node-1"])
    assert broken.status()["reason"].startswith(
        "failed to materialize config snapshot: ValueError in app.py, line "
    )


def test_sigterm_tells_who_waits_to_come_back_and_ends_with_0_at_once(place: Place) -> None:
    server = place.serve("application:Fleet", cwd=HERE, environment={"NODES": "1000"})
    with ThreadPoolExecutor(60) as pool:
        names = [f"node-{n}" for n in range(50)]
        list(pool.map(lambda name: register(server, name), names))
        asked = [
            pool.submit(server.ask, "POST", "/node", body(name), {"Prefer": "wait=30"}) for name in names
        ]
        eventually(lambda: server.status()["waiting"] == 50)
        began = time.monotonic()
        assert server.stop() == 0, server.log
        took = time.monotonic() - began
        replies = [question.result(30) for question in asked]
    assert {(reply.status, reply.words["code"]) for reply in replies} == {(503, "unavailable")}
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies)
    assert took < 5
    with pytest.raises(OSError, match="refused"):
        ask(server.port, "GET", "/livez")


def test_ctrl_c_drains_too_and_ends_with_130(place: Place) -> None:
    server = place.serve("application:Fleet", "--store", "memory:", cwd=HERE)
    assert server.stop(signal.SIGINT) == 130
    assert "Traceback" not in server.log


@pytest.mark.parametrize("store", ["sqlite", "memory"])
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_fetch_that_waits_survives_a_restart_of_its_server_and_boots(
    place: Place, store: str, end: str
) -> None:
    url = f"sqlite:{place.directory / 'kept.db'}" if store == "sqlite" else "memory:"

    def serve(port: int = 0) -> Server:
        return place.serve(
            "application:Fleet", "--store", url, port=port, cwd=HERE, environment={"NODES": "2"}
        )

    server = serve()
    early = place.fetch(server.url, "node-1")
    eventually(lambda: server.status()["waiting"] == 1)
    server.kill() if end == "kill" else server.stop()
    server = serve(server.port)
    if store == "memory":  # forgotten, and registered again by the node itself
        eventually(lambda: server.status("node-1")["registered"])
    late = place.fetch(server.url, "node-2")
    for process in (early, late):
        code, said = ended(process)
        assert code == 0, said
    fleet = {(place.current(name) / "fleet.json").read_bytes() for name in ("node-1", "node-2")}
    assert len(fleet) == 1


def test_a_node_that_booted_asks_a_server_that_forgot_everything_again_and_takes_its_newer_epoch(
    place: Place,
) -> None:
    server = place.serve("application:Fleet", "--store", "memory:", cwd=HERE)
    assert ended(place.fetch(server.url, "node-1"))[0] == 0
    first = (place.current("node-1") / "fleet.json").read_bytes()
    server.kill()
    server = place.serve("application:Fleet", "--store", "memory:", port=server.port, cwd=HERE)
    again = place.run(*place.fetching(server.url, "node-1"))
    assert again.returncode == 0, again.stderr
    assert "new epoch" in again.stderr
    assert (place.current("node-1") / "fleet.json").read_bytes() != first
