"""Many nodes register and boot through kill −9 of the server again and again: nothing acknowledged is lost or doubled,
and nobody gets a part of a set. `tests/end_to_end/test_kill_server.py` at the size of `speed.md`."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest

from tests.chaos.crowd import raise_file_limit
from tests.chaos.exchanging import Crowd, Node
from tests.chaos.form import sized
from tests.history import Follower, check_the_store
from tests.processes import Place, Server
from tests.seeds import drawn_seed

NODES, KILLS = sized(1_000, 10_000), sized(5, 30)
QUORUM = NODES // 10
REBOOTS = NODES // 50
"""So many nodes that are up boot again in each life of a server, with other metadata: the next generation."""

APPLICATION = f"""
import hashlib, secrets
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, NotReady

class Fleet:
    def materialize_snapshot(self, registrations):
        if len(registrations) < {QUORUM}:
            return NotReady("too few", retry_after=3600)
        key = secrets.token_hex(16)
        words = [f"{{r.identifier}} {{r.metadata['boots']}}" for r in registrations]
        fleet = hashlib.sha256("\\n".join(sorted(words)).encode()).hexdigest()
        own = {{w.split()[0]: [ArtifactFile("/own", f"{{w}} {{key}}")] for w in words}}
        return MaterializedArtifacts.from_nodes(own).with_shared(
            [ArtifactFile("/key", key), ArtifactFile("/fleet", f"{{len(words)}} {{fleet}} {{key}}")]
        )
"""


class Killer:
    """Kills the server at the so-and-so-many-th answer of its life to a path, and counts what was under way."""

    def __init__(self, crowd: Crowd) -> None:
        self.killed = asyncio.Event()
        self.under_way: list[Counter[str]] = []
        self._crowd = crowd
        self._server: Server | None = None
        crowd.answered = self._answered

    def arm(self, server: Server, path: str, after: int) -> None:
        self.killed.clear()
        self._path, self._left, self._server = path, after, server

    def _answered(self, path: str, status: int) -> None:
        if self._server is None or path != self._path or status not in (200, 202):
            return
        self._left -= 1
        if self._left == 0:
            self._server.process.kill()
            self.under_way.append(+self._crowd.in_flight)
            self._server = None
            self.killed.set()


def whole(node: Node) -> Counter[tuple[str, str]]:
    """Every payload of this node is a whole set of one run; each (generation, key) that it got."""
    got: Counter[tuple[str, str]] = Counter()
    for fetched in node.fetched:
        own, shared, fleet = (str(file.content) for file in fetched.payload.files)
        name, boots, key = own.split()
        many, _, again = fleet.split()
        assert (name, shared, again) == (node.identifier, key, key), "a part of another set"
        assert int(boots) <= node.boots
        assert int(many) >= QUORUM
        got[str(fetched.generation), key] += 1
    return got


@pytest.mark.timeout(sized(120, 1_200))
async def test_no_kill_of_the_server_loses_or_doubles_anything_and_every_node_boots(
    place: Place,
) -> None:
    seed = drawn_seed()
    print(f"seed {seed}, {NODES} nodes, {KILLS} kills")
    chance = random.Random(seed)
    assert raise_file_limit() > NODES + 200, "NOT TESTED: too few open files are allowed"
    place.write("application.py", APPLICATION)
    store = place.directory / "fleet.db"

    async def serve(port: int = 0) -> Server:
        arguments = ("application:Fleet", "--store", f"sqlite:{store}")
        return await asyncio.to_thread(place.serve, *arguments, port=port)

    server = await serve()
    follower = Follower(store)
    follower.start()
    crowd = Crowd(server.port)
    killer = Killer(crowd)
    nodes = [Node(crowd, f"node-{n:05}") for n in range(NODES)]
    fresh = list(nodes)
    began = time.monotonic()
    back: list[float] = []
    for kill in range(KILLS):
        come, fresh = fresh[: -(-NODES // KILLS)], fresh[-(-NODES // KILLS) :]
        up = [node for node in nodes if node.is_up]
        again = chance.sample(up, min(REBOOTS, len(up)))
        registered = sum(1 for node in nodes if node.acknowledged)
        path = "/node" if registered >= QUORUM and kill % 2 else "/register"
        killer.arm(server, path, chance.randint(1, max(1, (len(come) + len(again)) // 2)))
        for node in come + again:
            node.boot()
        async with asyncio.timeout(120):
            await killer.killed.wait()
        at = time.monotonic()
        await asyncio.to_thread(server.process.wait)
        server = await serve(server.port)
        back.append(time.monotonic() - at)
    assert not fresh
    await asyncio.gather(*(node.ended for node in nodes if node.ended is not None))
    took = time.monotonic() - began
    booted = sum(len(node.fetched) for node in nodes)
    for node in chance.sample(nodes, REBOOTS):
        node.boot()
    await asyncio.gather(*(node.ended for node in nodes if node.ended is not None))
    for node in nodes:  # once more, all of the last generation
        node.ask()
    await asyncio.gather(*(node.ended for node in nodes if node.ended is not None))
    for node in nodes:
        node.close()
    await asyncio.sleep(0)
    follower.stop()
    assert await asyncio.to_thread(server.stop) == 0

    keys: dict[str, set[str]] = {}
    for node in nodes:
        for generation, key in whole(node):
            keys.setdefault(generation, set()).add(key)
    assert {len(of_one) for of_one in keys.values()} == {1}, "one generation with two contents"
    assert len({str(node.fetched[-1].generation) for node in nodes}) == 1, (
        "they ended in different generations"
    )
    for node in nodes:
        assert str(node.fetched[-1].payload.files[0].content).split()[1] == str(node.boots)
    revisions = check_the_store(store, nodes, follower.rows)

    storms = Counter({path: sum(u[path] > 0 for u in killer.under_way) for path in ("/register", "/node")})
    acknowledged = sum(len(node.acknowledged) for node in nodes)
    print(
        f"{KILLS} kills in {took:.1f} s; {acknowledged} acknowledgements, {revisions} revisions, {booted} boots from "
        f"{len(keys)} generations; cut off: {dict(crowd.lost)}, refused connections: {crowd.refused}; under way at a "
        f"kill: {dict(storms)}; listening again after {sorted(back)[KILLS // 2]:.2f} s (median), {max(back):.2f} s "
        f"(worst); answers: {dict(crowd.answers)}"
    )
    assert len(killer.under_way) == KILLS
    assert storms["/register"] >= KILLS // 5, "too few kills fell while registrations were under way"
    assert crowd.lost["/register"] + crowd.lost["/node"] >= NODES // 2, "too little was cut off"
    assert booted >= NODES
    assert len(keys) >= 2, "too few generations to say that a kill changes none"
