"""Slow peers by the thousand, and more connections than the server may open files: normal clients do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import time

import pytest

from tests.chaos.crowd import raise_file_limit
from tests.chaos.form import sized
from tests.chaos.slow import KINDS, Normal, Slow, gather_slow, p99, request
from tests.processes import BIN, Place, Server, ask, eventually, listening

LONGEST = 0.1
"""Seconds: the p99 of normal requests meanwhile."""
TRIES = 3
MOST_TRIES = 12
"""On a machine that others use too, the best of so many rounds is looked at; of more, as long as they are too slow."""
LOG_LINES_A_MINUTE = 10
SECONDS = sized(3, 20)

APPLICATION = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts

class Large:
    def materialize_snapshot(self, registrations):
        large = ArtifactFile("/large", "x" * 8_000_000)
        own = {r.identifier: [ArtifactFile("/id", r.identifier)] for r in registrations}
        return MaterializedArtifacts.from_nodes(own).with_shared([large])
"""


async def worst(port: int, large: bool) -> dict[str, float]:
    """The p99 of normal requests by kind; of the large answer, its longest."""
    best: dict[str, float] = {}
    for tried in range(MOST_TRIES):
        if tried >= TRIES and all(best[name] < LONGEST for name in ("alive", "fresh", "kept")):
            break
        normal = Normal(port)
        mine = {"identifier": "normal", "ip": "10.0.0.1"}
        until = time.monotonic() + SECONDS / TRIES
        while time.monotonic() < until or len(normal.took.get("kept", [])) < 100:
            assert await normal.ask("alive", request("/livez")) == 200
            assert await normal.ask("fresh", request("/register", mine)) == 202
            assert await normal.ask("kept", request("/register", mine), kept=True) == 202
            await asyncio.sleep(0.005)
        if large:
            for _ in range(5):
                assert await normal.ask("large", request("/node", mine)) == 200
        normal.close()
        now = {name: max(took) if name == "large" else p99(took) for name, took in normal.took.items()}
        best = {name: min(seconds, best.get(name, seconds)) for name, seconds in now.items()}
    return best


def lines_allowed(began: float) -> float:
    return LOG_LINES_A_MINUTE * max(1.0, (time.monotonic() - began) / 60)


def shown(took: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in took.items())


@pytest.mark.timed
@pytest.mark.timeout(sized(120, 300))
async def test_two_thousand_slow_peers_cost_a_normal_client_nothing(place: Place) -> None:
    many = 2_000
    assert raise_file_limit() > many + 200, "NOT TESTED: too few open files are allowed"
    place.write("application.py", APPLICATION)
    server = place.serve("application:Large", "--store", "memory:")
    alone = await worst(server.port, large=True)
    began, lines = time.monotonic(), server.log.count("\n")
    peers = await gather_slow(server.port, many)
    try:
        async with asyncio.timeout(60 + 2 * SECONDS * MOST_TRIES / TRIES):
            took = await worst(server.port, large=True)
        opened = {kind: sum(p.is_open for p in peers if p.kind == kind) for kind in KINDS}
    finally:
        for peer in peers:
            peer.close()
    logged = server.log.count("\n") - lines
    print(f"alone: {shown(alone)}; among {opened}: {shown(took)}; {logged} lines logged")
    assert sum(opened.values()) > many * 0.6, "too few of them held a connection: the run says nothing"
    assert took["fresh"] < LONGEST
    assert took["kept"] < LONGEST
    assert took["alive"] < LONGEST
    assert took["large"] < 2
    assert logged <= lines_allowed(began), server.log[-2000:]


@pytest.mark.timed
@pytest.mark.timeout(sized(120, 300))
async def test_a_flood_of_connections_past_the_file_limit_keeps_no_normal_client_out(place: Place) -> None:
    files, many = 300, sized(1_500, 3_500)
    if (prlimit := shutil.which("prlimit")) is None:
        pytest.skip("NOT TESTED: a lower file limit needs `prlimit`")
    assert raise_file_limit() > many + 200, "NOT TESTED: too few open files are allowed"
    place.write("application.py", APPLICATION)
    serve = (str(BIN / "cfgsync"), "serve", "application:Large", "--store", "memory:", "--port", "0")
    server: Server = listening(*place.start(f"--nofile={files}:{files}", *serve, command=prlimit))
    began, lines = time.monotonic(), server.log.count("\n")
    peers = [Slow("silent", f"flood-{n}", server.port) for n in range(many)]
    flood = [asyncio.ensure_future(peer.connect()) for peer in peers]
    try:
        async with asyncio.timeout(60 + 2 * SECONDS * MOST_TRIES / TRIES):
            took = await worst(server.port, large=False)
        await asyncio.gather(*flood)
        connections = sum(peer.connections for peer in peers)
    finally:
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
        for peer in peers:
            peer.close()
    logged = server.log.count("\n") - lines
    print(f"{connections} connections past {files} files: {shown(took)}; {logged} lines logged")
    assert connections > 5 * files, "that was no flood"
    assert took["alive"] < 1
    assert took["fresh"] < LONGEST
    assert logged <= lines_allowed(began), server.log[-2000:]


def test_a_server_without_a_file_left_says_so_in_a_few_lines_and_recovers(place: Place) -> None:
    files, seconds = 32, sized(3, 70)
    if (prlimit := shutil.which("prlimit")) is None:
        pytest.skip("NOT TESTED: a lower file limit needs `prlimit`")
    place.write("application.py", APPLICATION)
    serve = (str(BIN / "cfgsync"), "serve", "application:Large", "--store", "memory:", "--port", "0")
    server: Server = listening(*place.start(f"--nofile={files}:{files}", *serve, command=prlimit))
    began, lines = time.monotonic(), server.log.count("\n")
    with contextlib.ExitStack() as stack:
        for _ in range(2 * files):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        eventually(lambda: server.log.count("Too many open files") > 1)
        time.sleep(seconds)
    logged = server.log[-2000:]
    assert server.log.count("\n") - lines <= lines_allowed(began), logged
    assert "Traceback" not in logged
    assert ask(server.port, "GET", "/livez").status == 200
