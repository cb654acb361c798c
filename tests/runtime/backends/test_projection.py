"""The copy of documents in JetStream KV, as another NATS client reads it: it equals the store, whatever somebody does to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from hashlib import sha256

import aiohttp
import nats as client_of
import nats.js.errors as failures
from nats.js import JetStreamContext

from cfgsync_core import Backend, MemoryHints, MemoryStore, Version
from cfgsync_runtime.backends.nats.projection import Held, Put, plan
from cfgsync_runtime.compose.document_server import serving_documents
from tests.documents.test_by_name import ROOT
from tests.nats import Nats
from tests.nats import nats as nats

NEVER = 3600.0
BUCKET = "SYS_config_default"


async def until(holds: Callable[[], Awaitable[bool]], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not await holds():
            await asyncio.sleep(0.02)


async def read(stream: JetStreamContext) -> dict[str, object] | None:
    """What a NATS client finds, None without the bucket."""
    try:
        bucket = await stream.key_value(BUCKET)
    except failures.NotFoundError:
        return None
    try:
        keys = await bucket.keys()
    except failures.NoKeysError:
        return {}
    found = {}
    for key in keys:
        try:
            found[key] = json.loads((await bucket.get(key)).value)
        except failures.KeyNotFoundError:  # it was deleted meanwhile
            continue
    return found


class Copied:
    """Servers of one store that project to one NATS, and a client of that."""

    def __init__(self, nats: Nats, interval: float = NEVER) -> None:
        self._nats = nats
        self._interval = interval
        self.store = MemoryStore()
        self._hints = MemoryHints()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Copied:
        bus = await client_of.connect(self._nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0)
        self._stack.push_async_callback(bus.close)
        self.stream = bus.jetstream()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def server(self) -> aiohttp.ClientSession:
        backend = Backend(self.store, self.store, self._hints)
        serving = serving_documents(
            store=backend, hints=self._nats.url, project_kv=True, interval=self._interval, open_documents=True
        )
        server = await self._stack.enter_async_context(serving)
        return await self._stack.enter_async_context(aiohttp.ClientSession(server.url))

    async def becomes(self, wanted: dict[str, object]) -> None:
        async def holds() -> bool:
            return await read(self.stream) == wanted

        await until(holds)


async def test_documents_stand_in_the_bucket_with_revision_and_epoch_and_a_delete_is_a_marker(
    nats: Nats,
) -> None:
    async with Copied(nats) as copied:
        session = await copied.server()
        assert await read(copied.stream) is None
        await session.post(f"{ROOT}/a.b", json={"x": 1})
        await session.post(f"{ROOT}/c", json={"y": 2})
        await session.post("/api/v1/config/other", json={"z": 3}, params={"environment": "live"})
        await copied.becomes({"a.b": {"x": 1}, "c": {"y": 2}})
        etag = (await session.get(f"{ROOT}/a.b")).headers["ETag"].strip('"')
        message = await copied.stream.get_last_msg(f"KV_{BUCKET}", f"$KV.{BUCKET}.a.b")
        assert etag == f"{message.headers['Cfgsync-Epoch']}.{message.headers['Cfgsync-Revision']}"
        await session.delete(f"{ROOT}/a.b")
        await copied.becomes({"c": {"y": 2}})
        marker = await copied.stream.get_last_msg(f"KV_{BUCKET}", f"$KV.{BUCKET}.a.b")
        assert (marker.headers["KV-Operation"], marker.headers["Cfgsync-Revision"]) == ("DEL", "3")
        await session.post(f"{ROOT}/a.b", json={"x": 4})
        await copied.becomes({"a.b": {"x": 4}, "c": {"y": 2}})
        live = await copied.stream.key_value("SYS_config_live")
        assert json.loads((await live.get("other")).value) == {"z": 3}


async def test_a_bucket_that_somebody_deletes_is_made_and_filled_again_at_the_next_write(nats: Nats) -> None:
    async with Copied(nats) as copied:
        session = await copied.server()
        await session.post(f"{ROOT}/a", json={"x": 1})
        await copied.becomes({"a": {"x": 1}})
        await copied.stream.delete_key_value(BUCKET)
        await session.post(f"{ROOT}/b", json={"x": 2})
        await copied.becomes({"a": {"x": 1}, "b": {"x": 2}})
        bucket = await copied.stream.key_value(BUCKET)
        await bucket.put("b", b'"by hand"')  # in the way of the next write
        await session.post(f"{ROOT}/b", json={"x": 3})
        await copied.becomes({"a": {"x": 1}, "b": {"x": 3}})


async def test_what_somebody_does_to_the_bucket_is_mended_within_one_interval(nats: Nats) -> None:
    async with Copied(nats, interval=0.5) as copied:
        session = await copied.server()
        wanted = {f"d{number}": {"x": number} for number in range(20)}
        for name, value in wanted.items():
            await session.post(f"{ROOT}/{name}", json=value)
        await copied.becomes(wanted)
        bucket = await copied.stream.key_value(BUCKET)
        await bucket.purge("d1")
        await bucket.delete("d2")
        await bucket.put("d3", b"3")
        await bucket.put("stranger", b"3")
        await copied.becomes(wanted)
        await copied.stream.delete_key_value(BUCKET)
        await copied.becomes(wanted)


async def test_two_servers_and_a_nats_that_is_killed_leave_the_bucket_equal_to_the_store(nats: Nats) -> None:
    async with Copied(nats, interval=0.5) as copied:
        sessions = [await copied.server() for _ in range(2)]

        async def write(number: int) -> None:
            async with sessions[number % 2].post(f"{ROOT}/d{number % 7}", json={"x": number}) as reply:
                assert reply.status == 200

        await asyncio.gather(*map(write, range(100)))
        nats.kill()
        await asyncio.gather(*map(write, range(100, 200)))
        nats.start()
        await asyncio.gather(*map(write, range(200, 230)))
        names = [one["name"] for one in (await (await sessions[0].get(ROOT)).json())["configs"]]
        wanted = {name: (await (await sessions[1].get(f"{ROOT}/{name}")).json())["data"] for name in names}
        assert len(wanted) == 7
        await copied.becomes(wanted)


def test_a_slower_server_puts_nothing_over_what_a_faster_one_has_put() -> None:
    old, new = "0190-old", "0191-new"
    digest = sha256(b"1").digest()
    held = {
        "older": Held(1, Version(old, 3), digest),
        "equal": Held(2, Version(old, 4), digest),
        "damaged": Held(3, Version(old, 4), b"?"),
        "newer": Held(4, Version(old, 9), digest),
        "epoch": Held(5, Version(new, 1), digest),
        "gone": Held(6, Version(old, 4), digest),
        "not yet here": Held(7, Version(old, 6), digest),
        "marked": Held(8, Version(old, 9)),
    }
    wanted = dict.fromkeys(("older", "equal", "damaged", "newer", "epoch", "marked", "absent"), (4, b"1"))
    assert sorted(plan(wanted, Version(old, 5), held), key=lambda put: put.name) == [
        Put("absent", Version(old, 4), b"1", 0),
        Put("damaged", Version(old, 4), b"1", 3),
        Put("gone", Version(old, 5), None, 6),
        Put("older", Version(old, 4), b"1", 1),
    ]
