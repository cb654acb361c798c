"""Three servers on one PostgreSQL, one of them killed again and again: nobody is lost, and all nodes are one cluster."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from cfgsync_core import NodeRegistration, ServerUrl
from cfgsync_runtime.node.ending import Report
from cfgsync_runtime.node.fetch import fetch
from cfgsync_runtime.node.memory.state import NodeState
from cfgsync_runtime.node.outputs import OutputDirectory
from tests.chaos.form import sized
from tests.postgres import Postgres
from tests.postgres import postgres as postgres
from tests.processes import Place, eventually

NODES, KILLS = sized(45, 400), sized(3, 25)
APPLICATION = f"""
import secrets
from cfgsync_adapter import ArtifactFile, ArtifactSet, MaterializedArtifacts, NotReady

class Cluster:
    def materialize_snapshot(self, nodes):
        if len(nodes) < {NODES}:
            return NotReady(f"{{len(nodes)}} of {NODES}")
        key = secrets.token_hex(8)  # drawn on each server
        return MaterializedArtifacts.from_nodes(
            {{node.identifier: ArtifactSet([ArtifactFile("/key", key)]) for node in nodes}}
        )
"""


@pytest.mark.timeout(sized(180, 900))
def test_of_three_servers_one_is_killed_again_and_again_and_every_node_gets_the_same_generation(
    place: Place, postgres: Postgres, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    place.write("application.py", APPLICATION)
    url = postgres.url()
    servers = [place.serve("application:Cluster", "--store", url) for _ in range(3)]
    ports = [server.port for server in servers]
    ended: dict[int, Report] = {}
    killed = threading.Event()

    def boot(number: int) -> None:
        """A node that asks another server first than the one before it; the last one comes when the killing is over."""
        if number == NODES - 1:
            killed.wait()
        name, order = f"node-{number}", ports[number % 3 :] + ports[: number % 3]
        ended[number] = fetch(
            NodeRegistration(name, "10.0.0.1"),
            ServerUrl.parse_several(",".join(f"http://127.0.0.1:{port}" for port in order)),
            OutputDirectory(str(tmp_path / name)),
            NodeState(str(tmp_path / "state" / name), name),
            wait=sized(120, 600),
        ).report

    booting = [threading.Thread(target=boot, args=(number,)) for number in range(NODES)]
    for thread in booting:
        thread.start()
        time.sleep(draw.random() * 0.05)
    for _ in range(KILLS):
        number = draw.randrange(3)
        servers[number].kill()
        servers[number] = place.serve("application:Cluster", "--store", url, port=ports[number])
    killed.set()
    for thread in booting:
        thread.join()
    assert {report.exit for report in ended.values()} == {0}, [
        one.message for one in ended.values() if one.exit
    ]
    assert len({report.generation for report in ended.values()}) == 1
    assert len({(tmp_path / f"node-{number}/current/key").read_text() for number in range(NODES)}) == 1
    for server in servers:
        eventually(lambda server=server: server.status()["applied"] == NODES)  # type: ignore[misc]
        assert server.status()["revision"] == NODES, "one revision for each registration"
        assert "Traceback" not in server.log
    checked = place.run("store", "check", "--store", url)
    assert checked.returncode == 0, checked
