"""Two servers on one store: nothing is lost between their writers, and a read after a write is never older than it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from cfgsync_core import MemoryHints, MemoryStore
from cfgsync_runtime.compose.document_server import serving_documents

ONE = "/api/v1/config/a"
HISTORY = "/v1/config/admin/apps/default/envs/default/namespaces/default/documents/a/history"


class LostHints(MemoryHints):
    """No hint arrives."""

    async def publish(self, bucket: str) -> None:
        return None


@asynccontextmanager
async def two(hints: MemoryHints, interval: float = 15.0) -> AsyncIterator[list[aiohttp.ClientSession]]:
    store = MemoryStore()
    serving = {"store": store, "hints": hints, "interval": interval, "open_documents": True}
    async with (
        serving_documents(**serving) as one,
        serving_documents(**serving) as other,
        aiohttp.ClientSession(one.url) as first,
        aiohttp.ClientSession(other.url) as second,
    ):
        yield [first, second]


async def patch(session: aiohttp.ClientSession, field: str, value: object) -> int:
    async with session.patch(ONE, json={field: value}) as reply:
        assert reply.status == 200, await reply.text()
        return (await reply.json())["revision"]


async def data(session: aiohttp.ClientSession) -> object:
    async with session.get(ONE) as reply:
        return (await reply.json())["data"]


async def test_a_hundred_callers_of_both_patch_disjoint_fields_and_all_are_there_and_in_the_history():
    async with two(MemoryHints()) as sessions:
        revisions = await asyncio.gather(
            *(patch(sessions[number % 2], f"field-{number}", number) for number in range(100))
        )
        assert sorted(revisions) == list(range(1, 101))
        for session in sessions:
            assert await data(session) == {f"field-{number}": number for number in range(100)}
            entries = (await (await session.get(HISTORY)).json())["entries"]
            assert [entry["version"] for entry in entries] == list(range(100, 0, -1))


@pytest.mark.parametrize("hints", [MemoryHints, LostHints])
async def test_a_get_after_a_patch_on_the_other_server_is_never_older(hints):
    async with two(hints()) as sessions:
        for number in range(20):
            await patch(sessions[number % 2], "x", number)
            assert await data(sessions[(number + 1) % 2]) == {"x": number}


@pytest.mark.parametrize(("hints", "interval"), [(MemoryHints, 15.0), (LostHints, 0.2)])
async def test_a_held_get_and_a_watcher_see_a_write_on_the_other_server(hints, interval):
    async with two(hints(), interval) as (one, other), other.ws_connect(f"{ONE}/watch") as socket:
        assert (await socket.receive_json(timeout=30))["deleted"]
        await patch(one, "x", 1)
        assert (await socket.receive_json(timeout=30))["data"] == {"x": 1}
        tag = (await other.get(ONE)).headers["ETag"]
        headers = {"If-None-Match": tag, "Prefer": "wait=30"}
        held = asyncio.create_task(other.get(ONE, headers=headers))
        await patch(one, "x", 2)
        assert (await (await held).json())["data"] == {"x": 2}
        assert (await socket.receive_json(timeout=30))["data"] == {"x": 2}
