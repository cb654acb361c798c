"""Several `cfgsync serve` on one PostgreSQL: a node may talk to any of them, and one that is killed is not missed."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from tests.postgres import Postgres, own_postgres
from tests.postgres import postgres as postgres
from tests.processes import Place, Server, body, ended, eventually

APPLICATION = """
import secrets
from cfgsync_adapter import ArtifactFile, ArtifactSet, MaterializedArtifacts, NotReady

class Three:
    def materialize_snapshot(self, nodes):
        if len(nodes) < 3:
            return NotReady(f"{len(nodes)} of 3")
        key = secrets.token_hex(8)  # drawn on each server: the nodes must all get one cluster
        names = sorted(node.identifier for node in nodes)
        return MaterializedArtifacts.from_nodes({
            name: ArtifactSet([ArtifactFile("/key", key), ArtifactFile("/peers", ",".join(names))]) for name in names
        })
"""


def test_three_servers_share_one_store_and_the_death_of_one_loses_nothing(
    place: Place, postgres: Postgres, tmp_path: Path
) -> None:
    place.write("application.py", APPLICATION)
    url = postgres.url().replace("cfgsync@", "cfgsync:canary-7@")
    servers = [place.serve("application:Three", "--store", url) for _ in range(3)]
    for number, server in enumerate(servers):
        assert "canary-7" not in server.said
        assert server.ask("POST", "/register", body(f"node-{number}")).status == 202
    servers[0].kill()
    eventually(lambda: all(files(server, n) for server in servers[1:] for n in range(3)))
    assert len({files(server, n) for server in servers[1:] for n in range(3)}) == 1, "one cluster"
    again = place.serve("application:Three", "--store", url)
    assert files(again, 0) == files(servers[1], 0)
    names = [f"{socket.gethostname()}:{server.port}" for server in (again, *servers)]
    eventually(lambda: {one["name"] for one in again.status()["servers"]} == set(names))
    first = again.status()["servers"][0]
    assert (first["name"], first["revision"]) == (names[0], 3)
    shown = place.run("status", "--server", again.url)
    assert all(name in shown.stdout for name in names), shown
    assert all("canary-7" not in server.log for server in (*servers, again))


def test_a_waiting_and_a_watching_node_outlive_the_server_that_they_ask(
    place: Place, postgres: Postgres
) -> None:
    place.write("application.py", APPLICATION)
    url = postgres.url()
    servers = [place.serve("application:Three", "--store", url) for _ in range(3)]
    several = ",".join(server.url for server in servers)
    watcher, log = place.start(*place.fetching(several, "node-0", "--watch"))
    waiting = place.fetch(several, "node-1", "--wait", "60")
    eventually(lambda: servers[0].status()["waiting"] == 2)
    servers[0].kill()
    assert servers[2].ask("POST", "/register", body("node-2")).status == 202
    assert ended(waiting)[0] == 0
    key, peers = place.current("node-0") / "key", place.current("node-0") / "peers"
    eventually(lambda: peers.exists() and peers.read_text() == "node-0,node-1,node-2")
    assert key.read_text() == (place.current("node-1") / "key").read_text(), "one cluster"
    asked = place.run("status", "--server", several, "node-1")
    assert asked.returncode == 0, asked
    servers[1].process.send_signal(signal.SIGSTOP)  # it keeps its connections and answers nothing
    try:
        assert servers[2].ask("POST", "/register", body("node-3")).status == 202
        eventually(lambda: peers.read_text() == "node-0,node-1,node-2,node-3")
    finally:
        servers[1].process.send_signal(signal.SIGCONT)
    assert watcher.poll() is None
    assert servers[0].url in log.read_text(), "it says which server was lost"


def test_a_failover_that_loses_nothing_keeps_the_cluster_on_each_server(place: Place) -> None:
    postgres = own_postgres()
    try:
        place.write("application.py", APPLICATION)
        url = postgres.url()
        servers = [place.serve("application:Three", "--store", url) for _ in range(2)]
        for number in range(3):
            assert servers[0].ask("POST", "/register", body(f"node-{number}")).status == 202
        eventually(lambda: all(files(server, n) for server in servers for n in range(3)))
        before = files(servers[0], 0)
        generation = servers[0].status()["generation"]
        postgres.stop("fast")
        postgres.promote()
        eventually(lambda: all(server.status()["generation"] > generation for server in servers))
        eventually(lambda: all("another history" in server.log for server in servers))
        epochs, numbers = zip(
            *(one.status()["generation"].rpartition(".")[::2] for one in servers), strict=True
        )
        assert len(set(epochs)) == 1
        assert set(numbers) == {generation.rpartition(".")[2]}
        assert {files(server, 0) for server in servers} == {before}
        assert (
            place.run("store", "new-epoch", "--store", url).returncode == 0
        )  # beside the servers, which follow
        eventually(lambda: all(one.status()["generation"].rpartition(".")[0] > epochs[0] for one in servers))
        assert {files(server, 0) for server in servers} == {before}
    finally:
        postgres.remove()


def test_a_fleet_moves_from_sqlite_to_postgresql_while_its_nodes_watch(
    place: Place, postgres: Postgres
) -> None:
    place.write("application.py", APPLICATION)
    server = place.serve("application:Three", "--store", "sqlite:old.db")
    for number in (1, 2):
        assert server.ask("POST", "/register", body(f"node-{number}")).status == 202
    watcher, log = place.start(*place.fetching(server.url, "node-0", "--watch"))
    file = place.current("node-0") / "key"
    eventually(file.exists)
    before = (file.read_text(), file.stat().st_ino)
    url = postgres.url()
    assert "is in use by another server" in place.run("store", "copy", "sqlite:old.db", url).stderr
    assert server.stop() == 0
    assert place.run("store", "new-epoch", "--store", "sqlite:old.db").returncode == 0
    assert "is moved for good" in place.run("store", "copy", "sqlite:old.db", url).stdout
    refused = place.run("serve", "application:Three", "--store", "sqlite:old.db", "--port", "0")
    assert (refused.returncode, refused.stderr.count("the store was moved to postgresql://")) == (1, 1)
    moved = place.serve("application:Three", "--store", url, port=server.port)
    eventually(lambda: "a new epoch has begun" in log.read_text())
    assert (file.read_text(), file.stat().st_ino) == before, "equal files are not written again"
    assert moved.ask("POST", "/register", body("node-3")).status == 202
    peers = place.current("node-0") / "peers"
    eventually(lambda: peers.read_text() == "node-0,node-1,node-2,node-3")
    assert watcher.poll() is None


def files(server: Server, number: int) -> bytes:
    """What a node gets, b"" while it gets nothing."""
    reply = server.ask("POST", "/node", body(f"node-{number}"), {"Prefer": "wait=5"})
    assert reply.status in (200, 425), reply
    return reply.body if reply.status == 200 else b""
