"""Kill −9 the server again and again while a fleet registers and boots: nothing acknowledged is lost, nothing doubled.

The kills are set off by an answer (the so-and-so-many-th registration or payload of a server's life), so that they fall
while others are under way; that they do is asserted. What a kill cannot show is a missing fsync: see `tests/kills.py`.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path

import aiohttp

from cfgsync_core import CfgsyncClient, Fetched, NodeRegistration, Version
from cfgsync_runtime.node.outputs import OutputDirectory
from cfgsync_runtime.node.programs import fetch_and_write_artifacts
from tests.chaos.form import sized
from tests.end_to_end.wire import Seen, seeing_session
from tests.history import check_the_store
from tests.processes import Place, Server
from tests.seeds import drawn_seed

HERE = Path(__file__).parent
NODES, KILLS, QUORUM = sized(200, 500), sized(8, 20), sized(80, 200)
REBOOTS = 15
"""So many nodes that are up boot again in each life of a server, with other metadata: the next generation."""


class Node:
    """One node of the fleet: its secret, what it registers, and what it was ever told."""

    def __init__(self, n: int) -> None:
        self.identifier = f"node-{n:03}"
        self.secret = f"secret-of-{self.identifier}"
        self.boots = 0
        self.registration = self._words()
        self.acknowledged: list[tuple[Version, NodeRegistration]] = []
        self.fetched: list[Fetched] = []

    def _words(self) -> NodeRegistration:
        return NodeRegistration(self.identifier, "127.0.0.1").with_metadata({"boots": self.boots})

    @property
    def seen(self) -> Version | None:
        """The newest generation it was answered from; an older answer would be refused."""
        return Version.parse(self.fetched[-1].generation or "") if self.fetched else None

    async def boot(self, url: str, session: aiohttp.ClientSession) -> None:
        """Register as it is now, and get the files."""
        self.boots += 1
        self.registration = self._words()
        await self.ask(url, session)

    async def ask(self, url: str, session: aiohttp.ClientSession) -> None:
        client = CfgsyncClient(url, session=session, secret=self.secret)
        self.fetched.append(await client.fetch(self.registration, wait=120, seen=self.seen))

    def check(self, fetched: Fetched) -> str:
        """The payload is whole: both files, of one run, with this node in it. Its key."""
        own, shared = (str(file.content) for file in fetched.payload.files)
        fleet = json.loads(shared)
        name, _, metadata, key = own.split()
        assert (name, key) == (self.identifier, fleet["key"])
        assert json.loads(metadata) == fleet["members"][self.identifier]
        assert len(fleet["members"]) >= QUORUM
        return key


class Killer:
    """Kills the server when it has given the so-and-so-many-th answer to `path`, and counts what was under way."""

    def __init__(self, nodes: list[Node], seen: Seen) -> None:
        self._by_secret = {node.secret: node for node in nodes}
        self._seen = seen
        seen.answered = self._answered
        self.killed = asyncio.Event()
        self.under_way: list[Counter[str]] = []
        self._server: Server | None = None

    def arm(self, server: Server, path: str, after: int) -> None:
        self.killed.clear()
        self._path, self._left, self._server = path, after, server

    def _answered(self, secret: str, path: str, response: aiohttp.ClientResponse) -> None:
        node = self._by_secret[secret]
        if path == "/register" and response.status == 202:
            version = Version.parse(response.headers["Cfgsync-Version"])
            node.acknowledged.append((version, node.registration))
        if self._server is None or path != self._path or response.status not in (200, 202):
            return
        self._left -= 1
        if self._left == 0:
            self._server.process.kill()
            self.under_way.append(+self._seen.in_flight)
            self._server = None
            self.killed.set()


async def test_kills_of_the_server_lose_and_double_nothing_and_every_node_boots(place: Place) -> None:
    chance = random.Random(drawn_seed())
    store = place.directory / "fleet.db"

    def serve(port: int = 0) -> Server:
        return place.serve(
            *("application:Fleet", "--store", f"sqlite:{store}"),
            port=port,
            cwd=HERE,
            environment={"NODES": str(QUORUM)},
        )

    nodes = [Node(n) for n in range(NODES)]
    fresh = list(nodes)
    began = time.monotonic()
    async with seeing_session() as (session, seen):
        killer = Killer(nodes, seen)
        server = await asyncio.to_thread(serve)
        tasks: dict[Node, asyncio.Task[None]] = {}
        for kill in range(KILLS):
            up = [node for node, task in tasks.items() if task.done()]
            again = chance.sample(up, min(REBOOTS, len(up)))
            come = fresh[: NODES // KILLS]
            del fresh[: NODES // KILLS]
            asking = len(tasks) - len(up) + len(again) + len(come)
            can_be_ready = sum(1 for node in tasks if node.acknowledged) >= QUORUM
            path = "/node" if can_be_ready and kill % 2 else "/register"
            killer.arm(server, path, chance.randint(1, asking // 2))
            for node in come + again:
                tasks[node] = asyncio.create_task(node.boot(server.url, session))
            async with asyncio.timeout(60):
                await killer.killed.wait()
            await asyncio.to_thread(server.process.wait)
            server = await asyncio.to_thread(serve, server.port)
        assert not fresh
        for task in tasks.values():
            await task
        booted = sum(len(node.fetched) for node in nodes)

        # every node, asked once more: whole and current, in memory and on disk
        await asyncio.gather(*(node.ask(server.url, session) for node in nodes))
        on_disk = nodes[:: NODES // 25]
        for node in on_disk:
            out = OutputDirectory(str(place.directory / "out" / node.identifier))
            await fetch_and_write_artifacts(
                node.registration, server.url, out, secret=node.secret, session=session
            )
    took = time.monotonic() - began
    assert await asyncio.to_thread(server.stop) == 0

    # every payload was whole; one generation had one content, before and after kills; all ended in the same one
    contents: dict[str, set[str]] = {}
    for node in nodes:
        for fetched in node.fetched:
            contents.setdefault(str(fetched.generation), set()).add(node.check(fetched))
    assert {len(keys) for keys in contents.values()} == {1}, contents
    (newest,) = {str(node.fetched[-1].generation) for node in nodes}
    members = json.loads(str(nodes[0].fetched[-1].payload.files[1].content))["members"]
    assert members == {node.identifier: {"boots": node.boots} for node in nodes}
    for node in on_disk:
        current = place.directory / "out" / node.identifier / "current"
        for file in node.fetched[-1].payload.files:
            assert (current / file.path.lstrip("/")).read_text() == file.content

    revisions = check_the_store(store, nodes)

    # and it was a storm: kills fell while registrations and payloads were under way
    storms = Counter({path: sum(1 for u in killer.under_way if u[path]) for path in ("/register", "/node")})
    print(
        f"{KILLS} kills in {took:.1f} s; under way at a kill: {dict(storms)}; cut off: {dict(seen.lost)}; "
        f"{revisions} revisions, {sum(len(n.acknowledged) for n in nodes)} acknowledgements, {booted} boots from "
        f"{len(contents)} generations seen, the last {newest.rpartition('.')[2]}"
    )
    assert len(killer.under_way) == KILLS
    assert storms["/register"] >= KILLS // 4, "too few kills fell while registrations were under way"
    assert storms["/node"] >= KILLS // 2, "too few kills fell while nodes waited or were answered"
    assert seen.lost["/register"] >= KILLS
    assert seen.lost["/node"] >= 5 * KILLS
    assert booted > NODES
    assert len(contents) > KILLS // 5, "too few generations to say that a kill changes none"
