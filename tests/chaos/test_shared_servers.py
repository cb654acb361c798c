"""Three servers on one PostgreSQL, one of them killed again and again: nobody is lost, and all nodes are one cluster."""

from __future__ import annotations

import random
import socket
import threading
import time
from pathlib import Path

import pytest

from cfgsync_core import NodeRegistration, ServerUrl
from cfgsync_runtime.node.ending import Ending
from cfgsync_runtime.node.fetch import fetch
from cfgsync_runtime.node.memory.state import NodeState
from cfgsync_runtime.node.outputs import OutputDirectory
from tests.chaos.form import sized
from tests.postgres import Postgres
from tests.postgres import postgres as postgres
from tests.processes import Place, body, eventually, listening
from tests.seeds import drawn_seed

NODES, KILLS = sized(45, 1_000), sized(3, 30)
APART_SECONDS = 1.0
"""At least, from one kill to the next."""
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


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(sized(180, 1_200))
def test_of_three_servers_one_is_killed_again_and_again_and_every_node_gets_the_same_generation(
    place: Place, postgres: Postgres, tmp_path: Path
) -> None:
    draw = random.Random(drawn_seed())
    place.write("application.py", APPLICATION)
    line = ("application:Cluster", "--store", postgres.url())
    servers = [place.serve(*line) for _ in range(3)]
    ports = [server.port for server in servers]
    going = [server.process for server in servers]
    started = [(server.process, Path()) for server in servers]
    ended: dict[int, Ending] = {}
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
            wait=sized(120, 900),
        )

    began = time.monotonic()
    booting = [threading.Thread(target=boot, args=(number,)) for number in range(NODES)]

    def come() -> None:
        """Spread over the time of the kills."""
        for thread in booting:
            thread.start()
            time.sleep(draw.random() * 2 * KILLS * APART_SECONDS / NODES)

    coming = threading.Thread(target=come)
    coming.start()
    most_down = 0
    for _ in range(KILLS):
        until = time.monotonic() + APART_SECONDS
        eventually(lambda: any(map(listens, ports)))
        up = [number for number in range(3) if listens(ports[number])]
        most_down = max(most_down, 4 - len(up))
        number = draw.choice(up)
        going[number].kill()
        going[number].wait()
        started[number] = place.start("serve", *line, "--port", str(ports[number]))
        going[number] = started[number][0]
        time.sleep(max(until - time.monotonic(), 0))
    over = time.monotonic()
    killed.set()
    coming.join()
    for thread in booting:
        thread.join()
    took = time.monotonic()
    reports = [ending.report for ending in ended.values()]
    told = sum(ending.acknowledged for ending in ended.values())
    assert {report.exit for report in reports} == {0}, [one.message for one in reports if one.exit]
    assert (len(reports), len({report.generation for report in reports})) == (NODES, 1)
    assert len({(tmp_path / f"node-{number}/current/key").read_text() for number in range(NODES)}) == 1
    now = [
        server if log == Path() else listening(process, log)
        for server, (process, log) in zip(servers, started, strict=True)
    ]
    for server in now:
        # a node says once what it has applied, and on a busy machine its word may be lost: but never one that was answered
        eventually(lambda server=server: server.status()["applied"] >= told)  # type: ignore[misc]
        status = server.status()
        assert (status["registered"], status["revision"]) == (NODES, NODES), (
            "one revision for each registration"
        )
        assert "Traceback" not in server.log
    for number in draw.sample(range(NODES), 20):
        name = f"node-{number}"
        secret = (tmp_path / "state" / name / "secret").read_text().strip()
        asked = (body(name, ip="10.0.0.1"), {"Authorization": f"Bearer {secret}"})
        replies = [server.ask("POST", "/node", *asked) for server in now]
        assert {reply.status for reply in replies} == {200}
        assert len({reply.body for reply in replies}) == 1, "byte-equal across servers"
    print(
        f"{NODES} nodes, {KILLS} kills in {over - began:.1f} s, at most {most_down} servers down at once; the last node had its"
        f" files {took - over:.1f} s after the last kill; {told} acknowledgements were answered"
    )
    checked = place.run("store", "check", "--store", line[2])
    assert checked.returncode == 0, checked
