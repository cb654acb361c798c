"""A composed server over real sockets: what it says of its store is what the engine says."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from cfgsync_adapter import MaterializedArtifacts
from cfgsync_core import MemoryStore, Unavailable
from cfgsync_runtime import serving_snapshot


class Nobody:
    def materialize_snapshot(self, registrations):
        return MaterializedArtifacts.from_nodes({})


class DeadEngine(MemoryStore):
    """Its `ping` fails, or never returns, while it is dead."""

    dead = True

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error

    async def ping(self):
        if self.dead:
            await asyncio.sleep(60 if self.error is None else 0)
            raise self.error


@pytest.mark.parametrize("error", [Unavailable("the disk is gone"), OSError("the disk is gone"), None])
async def test_readyz_is_503_while_the_engine_does_not_answer_its_ping(error):
    store = DeadEngine(error)
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
