"""Servers that share a store know of each other: who they are, and how far each has read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest

from cfgsync_adapter import NotReady
from cfgsync_core import CfgsyncClient, MemoryHints, MemoryStore, NodeRegistration
from cfgsync_runtime.compose import fellow_servers
from cfgsync_runtime.compose.fleet_server import serving_snapshot


class Never:
    def materialize_snapshot(self, registrations):
        return NotReady("never")


Listed = dict[int, tuple[int, bool]]
"""By port: the revision that a server has read, and whether it is silent."""


async def until(url: str, holds: Callable[[Listed], bool]) -> None:
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/status") as reply:
                servers = (await reply.json())["servers"]
            ports = {int(one["name"].rpartition(":")[2]): one for one in servers}
            if holds({port: (one["revision"], one["is_silent"]) for port, one in ports.items()}):
                return
            await asyncio.sleep(0.02)


async def test_each_server_lists_the_others_until_they_stop_and_says_which_are_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fellow_servers, "BEAT_SECONDS", 0.05)
    store, bus = MemoryStore(), MemoryHints()
    async with (
        serving_snapshot(Never(), store=store, hints=bus) as one,
        AsyncExitStack() as stack,
        CfgsyncClient(one.url) as client,
    ):
        two = await stack.enter_async_context(serving_snapshot(Never(), store=store, hints=bus))
        await client.register(NodeRegistration("node-1", "10.0.0.1"))
        for server in (one, two):
            await until(server.url, lambda seen: seen == {one.port: (1, False), two.port: (1, False)})
        await stack.aclose()
        await until(one.url, lambda seen: list(seen) == [one.port])
        await store.commit(fellow_servers.BUCKET, {"other:9": b'{"beat":1,"revision":1}'})  # and is killed
        await until(one.url, lambda seen: seen.get(9) == (1, False))
        monkeypatch.setattr(fellow_servers, "SILENT_AFTER", 0.1)
        await until(one.url, lambda seen: seen.get(9) == (1, True))
        monkeypatch.setattr(fellow_servers, "FORGOTTEN_AFTER", 0.2)
        await until(one.url, lambda seen: 9 not in seen)


async def test_a_server_that_is_alone_lists_none_and_writes_no_row() -> None:
    store = MemoryStore()
    async with (
        serving_snapshot(Never(), store=store) as server,
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}/status") as reply,
    ):
        assert "servers" not in await reply.json()
    assert fellow_servers.BUCKET not in await store.buckets()


async def test_a_row_that_cannot_be_read_ends_no_list_and_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fellow_servers, "BEAT_SECONDS", 0.05)
    store, bus = MemoryStore(), MemoryHints()
    await store.commit(fellow_servers.BUCKET, {"other:9": b"?"})
    async with serving_snapshot(Never(), store=store, hints=bus) as one:
        async with asyncio.timeout(30):
            while "the list of servers cannot be read" not in caplog.text:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        await store.commit(fellow_servers.BUCKET, {"other:9": b'{"beat":1,"revision":1}'})
        await until(one.url, lambda seen: 9 in seen)
    assert caplog.text.count("the list of servers cannot be read") == 1
