"""A composed server over real sockets: what it says of its store is what the engine says."""

from __future__ import annotations

import aiohttp

from cfgsync_adapter import MaterializedArtifacts
from cfgsync_core import MemoryStore, Unavailable
from cfgsync_runtime import serving_snapshot


class Nobody:
    def materialize_snapshot(self, registrations):
        return MaterializedArtifacts.from_nodes({})


class DeadEngine(MemoryStore):
    """It does not answer `ping` while it is dead."""

    dead = True

    async def ping(self):
        if self.dead:
            raise Unavailable("the disk is gone")


async def test_readyz_is_503_while_the_engine_does_not_answer_its_ping():
    store = DeadEngine()
    async with (
        serving_snapshot(Nobody(), store=store) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        async with session.get("/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["code"] == "unavailable"
        store.dead = False
        async with session.get("/readyz") as answer:
            assert answer.status == 200
