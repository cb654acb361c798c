"""NATS killed under writes: no write fails, and when it is back hints flow, the KV copy equals the store, and a consumer is at head."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack

import aiohttp
import nats as client_of
import pytest
from nats.js import errors as failures

from cfgsync_core import Backend, MemoryHints, MemoryStore
from cfgsync_documents.integrations.nats_events import ConfigChanged, ConfigState, EventConsumer
from cfgsync_runtime.compose.document_server import serving_documents
from tests.chaos.form import sized
from tests.documents.test_by_name import ROOT
from tests.nats import Nats
from tests.nats import nats as nats

WRITES, DOCUMENTS, AWAY_SECONDS = sized(200, 1_000), 20, sized(1.0, 10.0)
STREAM = "EVENTS"


@pytest.mark.timeout(sized(120, 300))
async def test_a_thousand_writes_while_nats_is_killed_all_succeed_and_everything_catches_up(
    nats: Nats,
) -> None:
    store, hints = MemoryStore(), MemoryHints()
    news: list[ConfigChanged | ConfigState] = []

    async def apply(one: ConfigChanged | ConfigState) -> None:
        news.append(one)

    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                serving_documents(
                    store=Backend(store, store, hints),
                    hints=nats.url,
                    events_stream=STREAM,
                    project_kv=True,
                    interval=3_600.0,  # what is seen sooner came by a hint
                    open_documents=True,
                )
            )
            for _ in range(2)
        ]
        writer, reader = [
            await stack.enter_async_context(aiohttp.ClientSession(server.url)) for server in servers
        ]
        statuses: list[int] = []

        async def write(name: str, value: int) -> None:
            async with writer.post(f"{ROOT}/{name}", json={"x": value}) as reply:
                statuses.append(reply.status)

        async def heard(after: int) -> int:
            """What the other server says of `d0`, after a read that waits for news of it."""
            async with reader.get(f"{ROOT}/d0") as reply:
                etag = reply.headers["ETag"]
            asked = {"If-None-Match": etag, "Prefer": f"wait={after}"}
            async with reader.get(f"{ROOT}/d0", headers=asked) as reply:
                return int((await reply.json())["data"]["x"]) if reply.status == 200 else -1

        await write("d0", -1)
        consumer = EventConsumer(
            *(nats.url, servers[0].url), stream=STREAM, durable="edge-1", env="default", apply=apply
        )
        running = asyncio.create_task(consumer.run())
        stack.callback(running.cancel)
        async with asyncio.timeout(60):
            while consumer.state != "CURRENT":
                await asyncio.sleep(0.02)

        nats.kill()
        began = time.monotonic()
        slowest = 0.0
        for number in range(WRITES):
            sent = time.monotonic()
            await write(f"d{number % DOCUMENTS}", number)
            slowest = max(slowest, time.monotonic() - sent)
            await asyncio.sleep(max(began + AWAY_SECONDS * number / WRITES - time.monotonic(), 0))
        await asyncio.sleep(max(began + AWAY_SECONDS - time.monotonic(), 0))
        nats.start()
        back = time.monotonic()
        waiting = asyncio.create_task(heard(60))
        number = WRITES
        while not waiting.done():  # the servers connect again, each when it does
            await write("d0", number := number + 1)
            await asyncio.sleep(0.2)
        assert waiting.result() > WRITES, "a hint of the other server's write came"
        async with reader.get(ROOT) as reply:
            names = [one["name"] for one in (await reply.json())["configs"]]
        assert len(names) == DOCUMENTS
        wanted = {name: json.loads(await _read(writer, name)) for name in names}

        bus = await client_of.connect(nats.url)
        stack.push_async_callback(bus.close)
        async with asyncio.timeout(60):
            while await _copy(bus) != wanted:
                await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            while True:
                head = (await store.version("config/default/default")).revision
                if consumer.state == "CURRENT" and consumer.version.revision == head:
                    break
                await write("d0", wanted["d0"]["x"])  # unchanged: it has no event
                await asyncio.sleep(0.1)
        caught_up = time.monotonic() - back
    assert set(statuses) == {200}
    assert any(isinstance(one, ConfigState) for one in news[1:]), (
        "the lost events were made up for by a snapshot"
    )
    print(
        f"{len(statuses)} writes, all 200, the slowest {slowest:.2f} s, NATS away for {back - began:.1f} s;"
        f" hints, KV and consumer had caught up {caught_up:.1f} s after it was back"
    )


async def _read(session: aiohttp.ClientSession, name: str) -> bytes:
    async with session.get(f"{ROOT}/{name}") as reply:
        return json.dumps((await reply.json())["data"]).encode()


async def _copy(bus: client_of.aio.client.Client) -> dict[str, object]:
    """What the KV bucket holds."""
    found: dict[str, object] = {}
    try:
        bucket = await bus.jetstream().key_value("SYS_config_default")
        for key in await bucket.keys():
            entry = await bucket.get(key)
            found[key] = json.loads(entry.value or b"null")
    except (failures.NotFoundError, failures.NoKeysError):
        pass
    return found
