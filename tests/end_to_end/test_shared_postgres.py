"""Several `cfgsync serve` on one PostgreSQL: a node may talk to any of them, and one that is killed is not missed."""

from __future__ import annotations

from pathlib import Path

from tests.postgres import Postgres
from tests.postgres import postgres as postgres
from tests.processes import Place, Server, body, eventually

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
    assert all("canary-7" not in server.log for server in (*servers, again))


def files(server: Server, number: int) -> bytes:
    """What a node gets, b"" while it gets nothing."""
    reply = server.ask("POST", "/node", body(f"node-{number}"), {"Prefer": "wait=5"})
    assert reply.status in (200, 425), reply
    return reply.body if reply.status == 200 else b""
