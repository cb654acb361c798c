"""What is announced after a commit of documents, over real sockets, and that no write depends on it."""

from __future__ import annotations

import asyncio

import aiohttp

from cfgsync_core import Backend, MemoryHints, MemoryStore
from cfgsync_documents import ConfigDefinition, ConfigManager
from cfgsync_runtime.compose.document_server import serving_documents
from tests.documents.bus import Bus
from tests.documents.test_by_name import ROOT
from tests.documents.test_by_scope import APP, ONE


def serving(bus):
    store = MemoryStore()
    return serving_documents(store=Backend(store, store, None, bus), open_documents=True)


def counted(metrics):
    named = (line.split() for line in metrics.splitlines() if line.startswith("cfgsync_events_total"))
    return {name.split('"')[1]: int(float(value)) for name, value in named}


async def test_every_commit_announces_both_forms_by_whichever_surface():
    bus = Bus()
    async with serving(bus) as server, aiohttp.ClientSession(server.url) as session:
        at = {"environment": "live"}
        await session.post(f"{ROOT}/a.b", json={"x": 1}, params=at)
        found = await (await session.get(f"{ROOT}/a.b", params=at)).json()
        epoch = (await session.get(f"{ROOT}/a.b", params=at)).headers["ETag"].strip('"').partition(".")[0]
        await session.post(f"{ROOT}/a.b", json={"x": 1}, params=at)  # equal: no revision, no event
        await session.delete(f"{ROOT}/a.b", params=at)
        await session.put(ONE, json={"contentJson": "1"})
        both = [
            {"namespace": "a", "configKey": "x", "defaultContentJson": "1"},
            {"namespace": "a", "configKey": "y", "defaultContentJson": "1"},
        ]
        await session.post(f"{APP}/defaults", json={"defaults": both})
    by_name = "public.default.live.system.config.a%2Eb.updated"
    default = {"app": "default", "env": "live", "epoch": epoch, "namespace": "default", "configKey": "a.b"}
    when = found["updatedAt"]
    assert bus.announced[:2] == [
        ("config.default.live.changed", {**default, "version": 1, "previous": 0, "timestamp": when}),
        (
            by_name,
            {
                "name": "a.b",
                "revision": 1,
                "previous": 0,
                "epoch": epoch,
                "data": {"x": 1},
                "updatedAt": when,
            },
        ),
    ]
    assert [subject for subject, _ in bus.announced[2:]] == [
        "config.default.live.changed",
        by_name,
        *["config.lobby.prod.changed"] * 2,
    ]
    deleted = bus.announced[3][1]
    assert (deleted["data"], deleted["deleted"], deleted["revision"]) == (None, True, 2)
    assert bus.announced[4][1].keys() >= {"namespace", "configKey"}
    assert "namespace" not in bus.announced[5][1]


class DyingHints(MemoryHints):
    """After `left` hints none arrives any more."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    async def publish(self, bucket):
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("the bus is dead")
        await super().publish(bucket)


async def test_a_bus_that_dies_in_the_middle_of_a_thousand_writes_fails_none_and_every_event_is_counted():
    """All are readable, a program that is bound on another server converges, and announced and failed are 2,000."""
    bus, store, hints = Bus(dies_after=1_000), MemoryStore(), DyingHints(10)
    shared = {"store": Backend(store, store, hints, bus), "interval": 0.5, "open_documents": True}
    definition = ConfigDefinition("default", "d49", dict, default={})
    async with (
        serving_documents(**shared) as server,
        serving_documents(**shared) as other,
        aiohttp.ClientSession(server.url) as session,
        ConfigManager.connect(other.url, interval=0.5) as manager,
    ):

        async def write(number):
            async with session.post(f"{ROOT}/d{number % 50}", json={"x": number}) as reply:
                return reply.status

        await write(49)
        await manager.register(definition, app="default", env="default")
        statuses = [await asyncio.gather(*map(write, range(at, at + 50))) for at in range(50, 1_050, 50)]
        assert {status for many in statuses for status in many} == {200}
        found = [await (await session.get(f"{ROOT}/d{number}")).json() for number in range(50)]
        assert [one["data"]["x"] for one in found] == list(range(1_000, 1_050))

        async def metrics():
            return counted(await (await session.get("/metrics")).text())

        async with asyncio.timeout(60):
            while manager.get(definition) != {"x": 1_049}:
                await asyncio.sleep(0.05)
            while sum((await metrics()).values()) < 2_002:
                await asyncio.sleep(0.05)
        assert await metrics() == {"published": 1_000, "skipped_not_connected": 0, "failed": 1_002}
        assert hints.left < 0
