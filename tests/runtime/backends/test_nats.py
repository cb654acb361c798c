"""Hints and events over a real NATS: a hint is heard, an event reaches the stream, and nothing waits for a bus that is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack

import aiohttp
import nats as client_of
import pytest

from cfgsync_core import Backend, MemoryHints, MemoryStore, StoreRefused
from cfgsync_runtime.backends.engines import open_bus
from cfgsync_runtime.compose.document_server import serving_documents
from tests.documents.test_by_name import ROOT
from tests.nats import Nats
from tests.nats import nats as nats

NEVER = 3600.0


async def until(holds: Callable[[], bool], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.02)


def shared(store: MemoryStore, url: str, **more: object):
    """A server of documents that shares its store, and hears of others only over NATS."""
    backend = Backend(store, store, MemoryHints())
    return serving_documents(store=backend, hints=url, interval=NEVER, open_documents=True, **more)


async def test_a_hint_reaches_the_subscribers_of_its_bucket_only(nats: Nats) -> None:
    async with open_bus(nats.url) as one, open_bus(nats.url) as two:
        await until(lambda: one.connection.client is not None and two.connection.client is not None)
        async with two.subscribe("a") as a, two.subscribe("b") as b:
            hearing = asyncio.create_task(anext(b))
            while not hearing.done():
                await one.publish("b")
                await asyncio.sleep(0.02)
            waiting = asyncio.create_task(anext(a))
            await one.publish("b")
            await one.publish("a")
            await asyncio.wait_for(waiting, 30)


async def test_a_connection_that_is_back_wakes_every_subscriber(nats: Nats) -> None:
    async with open_bus(nats.url) as bus, bus.subscribe("a") as hints:
        await asyncio.wait_for(anext(hints), 30)  # it is connected
        nats.kill()
        await until(lambda: bus.connection.client is None)
        await bus.publish("a")  # goes nowhere, and says nothing
        assert await bus.announce("config.a.b.changed", b"{}", "1") == "skipped_not_connected"
        nats.start()
        await asyncio.wait_for(anext(hints), 30)


async def test_a_nats_that_refuses_the_connection_for_a_while_is_used_again(nats: Nats) -> None:
    """The client is closed for good when NATS sends an error."""
    async with open_bus(nats.url) as bus, bus.subscribe("a") as hints:
        await asyncio.wait_for(anext(hints), 30)
        nats.configure('authorization { user: "ana", password: "another" }')
        await until(lambda: bus.connection.client is None)
        nats.configure("")
        await asyncio.wait_for(anext(hints), 30)
        hearing = asyncio.create_task(anext(hints))
        while not hearing.done():
            await bus.publish("a")
            await asyncio.sleep(0.02)


async def test_an_event_that_nats_does_not_take_is_lost_alone(
    nats: Nats, caplog: pytest.LogCaptureFixture
) -> None:
    nats.configure("max_payload: 64KB\n")
    async with open_bus(nats.url, "EVENTS") as bus, bus.subscribe("a") as hints:
        await asyncio.wait_for(anext(hints), 30)
        client = bus.connection.client
        for size in (64 * 1024 - 20, 64 * 1024, 200_000):
            with pytest.raises(
                client_of.errors.MaxPayloadError, match="raise its max_payload, which is 65536"
            ):
                await bus.announce("config.a.b.changed", b"x" * size, str(size))
        assert await bus.announce("config.a.b.changed", b"{}", "1") == "published"
        assert bus.connection.client is client, "NATS has not ended the connection"


@pytest.mark.parametrize(
    ("subjects", "said"),
    [
        (["config.>", "public.>"], ""),
        ([">"], ""),
        (["config.*.*.*", "public.>"], ""),
        (["config.*.*", "public.>"], "it does not take config.*.*.changed; add these subjects to it"),
        (["$KV.SYS.>"], "config.*.*.changed and public.*.*.system.config.*.updated"),
    ],
)
async def test_an_existing_stream_that_does_not_take_the_events_is_named(
    nats: Nats, subjects: list[str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with await client_of.connect(nats.url) as client:
        await client.jetstream().add_stream(name="THEIRS", subjects=subjects, no_ack=subjects == [">"])
    async with open_bus(nats.url, "THEIRS") as bus, bus.subscribe("a") as hints:
        await asyncio.wait_for(anext(hints), 30)
        await bus._connected(bus.connection.client)  # returns when the bus has looked at its stream
    lines = [one.message for one in caplog.records if "not kept in the stream THEIRS" in one.message]
    assert bool(lines) == bool(said)
    assert said in "".join(lines)


async def test_the_subjects_of_another_fleets_stream_are_named_and_nats_is_not_said_to_be_away(
    nats: Nats, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_bus(nats.url, "ONE") as one, one.subscribe("a") as hints:
        await asyncio.wait_for(anext(hints), 30)
        while True:
            try:
                await one.announce("config.a.b.changed", b"{}", "1")
                break
            except client_of.errors.Error:
                await asyncio.sleep(0.02)
        async with open_bus(nats.url, "TWO") as two:
            await until(lambda: "not kept in the stream TWO" in caplog.text)
            assert "each needs a NATS account of its own" in caplog.text
            assert "does not serve" not in caplog.text
            with pytest.raises(client_of.errors.Error):
                await two.announce("config.a.b.changed", b"{}", "2")


@pytest.mark.parametrize(
    "url", ["nats://", "nats://a,http://b", "nats://a:b", "nats://:4222", "nats://a:70000"]
)
async def test_a_url_that_is_none_of_nats_is_refused(url: str) -> None:
    with pytest.raises(StoreRefused, match="not the URL of a NATS server"):
        async with open_bus(url):
            pass


async def test_events_reach_the_stream_once_each_with_the_commit_as_their_id(nats: Nats) -> None:
    async with (
        shared(MemoryStore(), nats.url, events_stream="EVENTS") as server,
        aiohttp.ClientSession(server.url) as session,
        await client_of.connect(nats.url) as bus,
    ):
        for number in range(3):
            await session.post(f"{ROOT}/limits", json={"players": number}, params={"environment": "live"})
        stream = bus.jetstream()
        reader = await stream.subscribe("config.default.live.changed", stream="EVENTS", ordered_consumer=True)
        events = [await reader.next_msg(30) for _ in range(3)]
        words = [json.loads(one.data) for one in events]
        assert [(one["previous"], one["version"]) for one in words] == [(0, 1), (1, 2), (2, 3)]
        assert len({one.headers["Nats-Msg-Id"] for one in events}) == 3
        assert (await stream.stream_info("EVENTS")).config.max_age == 7 * 24 * 3600
        async with asyncio.timeout(30):  # each has an event of its kind, too
            while (await stream.stream_info("EVENTS")).state.messages < 6:
                await asyncio.sleep(0.02)
        assert (await stream.stream_info("EVENTS")).state.messages == 6


async def test_a_write_on_one_server_is_heard_on_the_other_and_none_fails_while_nats_is_away(
    nats: Nats,
) -> None:
    store = MemoryStore()
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(shared(store, nats.url)) for _ in range(2)]
        writer, reader = [
            await stack.enter_async_context(aiohttp.ClientSession(server.url)) for server in (one, two)
        ]

        async def write(name: str) -> None:
            async with writer.post(f"{ROOT}/{name}", json={"x": 1}) as reply:
                assert reply.status == 200

        async def held(name: str) -> int:
            """A read that waits, on the other server, for the document to change."""
            async with reader.get(f"{ROOT}/{name}") as reply:
                etag = reply.headers["ETag"]
            headers = {"If-None-Match": etag, "Prefer": "wait=20"}
            async with reader.get(f"{ROOT}/{name}", headers=headers) as reply:
                return (await reply.json())["data"]["x"] if reply.status == 200 else 0

        await write("first")
        nats.kill()
        await asyncio.gather(*(write(f"d{number}") for number in range(200)))
        nats.start()
        waiting = asyncio.create_task(held("first"))
        number = 1
        while not waiting.done():  # the servers connect again, each when it does
            number += 1
            async with writer.post(f"{ROOT}/first", json={"x": number}) as reply:
                assert reply.status == 200
            await asyncio.sleep(0.2)
        assert waiting.result() > 1
        async with reader.get(ROOT) as reply:
            assert len((await reply.json())["configs"]) == 201
