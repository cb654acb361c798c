"""Whose name it is, from `cfgsync fetch` to the server's disk: two nodes with one name, and a secret that moved."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import Place, Server, body, ended, eventually

HERE = Path(__file__).parent


@pytest.fixture
def server(place: Place) -> Server:
    return place.serve("application:Fleet", cwd=HERE)


def test_a_second_node_of_the_same_name_is_refused_with_5_and_told_what_to_do(
    place: Place, server: Server
) -> None:
    assert ended(place.fetch(server.url, "node-1"))[0] == 0
    files = sorted(path.read_bytes() for path in place.current("node-1").iterdir())
    with Place(place.directory / "elsewhere") as elsewhere:
        done = elsewhere.run(*elsewhere.fetching(server.url, "node-1"))
        assert done.returncode == 5
        happened, do = done.stderr.splitlines()
        assert happened.startswith(
            "the server refused node node-1: node-1 is already registered with another"
        )
        assert do.startswith("give the node the secret that it registered with (--state, --secret-file)")
        assert '"exit":5' in done.stdout
        assert '"reason":"refused"' in done.stdout
        assert not elsewhere.current("node-1").exists()

        # with the first one's secret it is the node
        shutil.copy(place.directory / "state/node-1/secret", elsewhere.directory / "secret")
        assert ended(elsewhere.fetch(server.url, "node-1", "--secret-file", "secret"))[0] == 0
    assert sorted(path.read_bytes() for path in place.current("node-1").iterdir()) == files
    secret = (place.directory / "state/node-1/secret").read_text().strip()
    assert secret not in server.log


def test_over_http_no_secret_is_401_another_one_403_or_409_and_nothing_changes(server: Server) -> None:
    mine, other = (
        {"Authorization": "Bearer mine-mine-mine-mine"},
        {"Authorization": "Bearer other-other-other"},
    )
    assert server.ask("POST", "/register", body("node-1"), mine).status == 202
    files = server.ask("POST", "/node", body("node-1"), mine)
    for path, headers, status, code in [
        ("/register", {}, 401, "unauthorized"),
        ("/register", other, 409, "identity_conflict"),
        ("/register", {"Authorization": "Basic bWluZQ=="}, 401, "unauthorized"),
        ("/node", {}, 401, "unauthorized"),
        ("/node", other, 403, "forbidden"),
        ("/node", {"Authorization": "Bearer "}, 401, "unauthorized"),
    ]:
        reply = server.ask("POST", path, body("node-1", {"new": True}), headers)
        assert (reply.status, reply.words["code"]) == (status, code), (path, headers)
        assert reply.words["message"]
    again = server.ask("POST", "/node", body("node-1"), mine)
    assert (again.status, again.body) == (200, files.body)
    assert again.headers["cfgsync-generation"] == files.headers["cfgsync-generation"]
    assert server.status()["revision"] == 1


def test_of_ten_processes_that_come_first_with_one_name_exactly_one_boots_also_after_a_kill(
    place: Place,
) -> None:
    server = place.serve("application:Fleet", cwd=HERE)

    def one(n: int) -> int:
        secret = place.write(f"secret-{n}", f"the-secret-of-process-{n}\n")
        done = place.run(
            *place.fetching(server.url, "node-1", out=str(place.directory / f"out-{n}")),
            *("--secret-file", str(secret)),
        )
        return done.returncode

    with ThreadPoolExecutor(10) as pool:
        codes = list(pool.map(one, range(10)))
    assert sorted(codes) == [0] + [5] * 9
    server.kill()
    server = place.serve("application:Fleet", cwd=HERE, port=server.port)
    assert [one(n) for n in (codes.index(0), codes.index(5))] == [0, 5]


def test_a_node_whose_reply_was_lost_with_the_server_is_not_locked_out_of_its_name(place: Place) -> None:
    """The node makes its secret, and keeps it, before it registers: whatever was committed, it may come again."""
    server = place.serve("application:Fleet", cwd=HERE, environment={"NODES": "2"})
    process = place.fetch(server.url, "node-1")
    eventually(lambda: server.status()["registered"] == 1)
    process.kill()
    process.wait()
    server.kill()
    server = place.serve("application:Fleet", cwd=HERE, port=server.port)
    assert ended(place.fetch(server.url, "node-1"))[0] == 0
