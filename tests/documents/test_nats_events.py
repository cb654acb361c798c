"""A program that acts on changes, over a real NATS: in order, once in effect, and from a snapshot where events are missing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import nats as client_of
from nats.js import JetStreamContext

from cfgsync_core import MemoryStore
from cfgsync_documents.integrations.nats_events import ConfigChanged, ConfigState, EventConsumer
from cfgsync_runtime.compose.document_server import serving_documents
from tests.documents.test_by_name import ROOT
from tests.nats import Nats
from tests.nats import nats as nats

STREAM = "EVENTS"
SUBJECT = "config.default.live.changed"


async def until(holds: Callable[[], bool], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.02)


class Program:
    """What a program does with its news: `done` has the revisions of events, and `("state", revision)` of snapshots."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.documents: dict[str, str] = {}
        self.failing = 0

    async def apply(self, news: ConfigChanged | ConfigState) -> None:
        if self.failing:
            self.failing -= 1
            raise RuntimeError("not now")
        if isinstance(news, ConfigState):
            self.done.append(("state", news.version.revision))
            self.documents = dict(news.documents)
        else:
            assert news.previous.revision + 1 == news.version.revision
            self.done.append(news.version.revision)


class Site:
    def __init__(
        self, nats: Nats, server: str, session: aiohttp.ClientSession, stream: JetStreamContext
    ) -> None:
        self.nats = nats
        self.server = server
        self.stream = stream
        self._session = session

    async def write(self, *numbers: int) -> None:
        for number in numbers:
            async with self._session.post(
                f"{ROOT}/limits", json={"x": number}, params={"environment": "live"}
            ) as reply:
                assert reply.status == 200

    @asynccontextmanager
    async def consumer(self, program: Program, interval: float = 3600.0) -> AsyncIterator[EventConsumer]:
        made = EventConsumer(
            self.nats.url,
            self.server,
            stream=STREAM,
            durable="edge-1",
            env="live",
            apply=program.apply,
            interval=interval,
        )
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def site(nats: Nats) -> AsyncIterator[Site]:
    async with (
        serving_documents(
            store=MemoryStore(), hints=nats.url, events_stream=STREAM, open_documents=True
        ) as server,
        aiohttp.ClientSession(server.url) as session,
        await client_of.connect(nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0) as bus,
    ):
        made = Site(nats, server.url, session, bus.jetstream())
        async with asyncio.timeout(30):
            while not await made.stream.streams_info():
                await asyncio.sleep(0.02)
        yield made


async def test_each_event_is_applied_in_order_and_a_later_start_goes_on_where_the_first_ended(
    nats: Nats,
) -> None:
    async with site(nats) as here:
        await here.write(1, 2)
        program = Program()
        async with here.consumer(program) as consumer:
            await until(lambda: consumer.state == "CURRENT")
            assert program.done == [("state", 2)], "the first start has no cursor"
            await here.write(3)
            await until(lambda: program.done == [("state", 2), 3])
            program.failing = 1
            await here.write(4, 5)
            await until(lambda: program.done == [("state", 2), 3, 4, 5])
        await here.write(6, 7)
        again = Program()
        async with here.consumer(again) as consumer:
            await until(lambda: again.done == [6, 7])
            await until(lambda: consumer.state == "CURRENT")
        assert again.done == [6, 7]


async def test_stale_and_repeated_events_and_those_of_others_change_nothing(nats: Nats) -> None:
    async with site(nats) as here:
        await here.write(1)
        program = Program()
        async with here.consumer(program) as consumer:
            await until(lambda: consumer.state == "CURRENT")
            await here.write(2)
            old = {"epoch": "0190", "version": 99, "previous": 1, "timestamp": ""}
            seen = {**old, "epoch": consumer.version.epoch, "version": 1, "previous": 0}
            for body in (b"?", *(json.dumps(one).encode() for one in (old, seen, seen))):
                await here.stream.publish(SUBJECT, body)
            await here.write(3)
            await until(lambda: program.done == [("state", 1), 2, 3])


async def test_a_gap_of_events_is_filled_from_a_snapshot_before_it_is_current(nats: Nats) -> None:
    async with site(nats) as here:
        await here.write(1)
        program = Program()
        async with here.consumer(program) as consumer:
            await until(lambda: consumer.state == "CURRENT")
            nats.kill()
            await here.write(2, 3)  # their events are lost
            nats.start()
            await until(lambda: program.done[-1] == ("state", 3))
            number = 3
            while program.done[-1] != number or consumer.state != "CURRENT":
                number += 1
                await here.write(number)
                await asyncio.sleep(0.2)
            assert program.done.count(("state", 3)) == 1
        await here.write(number + 1)
        await here.stream.purge_stream(STREAM)  # as a retention that is shorter than the downtime
        again = Program()
        async with here.consumer(again) as consumer:
            await until(lambda: again.done == [("state", number + 1)])
            assert json.loads(again.documents["default/limits"]) == {"x": number + 1}
            await here.stream.delete_stream(STREAM)
            await here.write(number + 2)  # the server makes the stream again
            await until(lambda: again.done[-1] in (number + 2, ("state", number + 2)))


KILLED = """
import asyncio, os, signal, sys
from cfgsync_documents.integrations.nats_events import ConfigState, EventConsumer

async def apply(news):
    if not isinstance(news, ConfigState):
        with open(sys.argv[3], "a") as done:
            print(news.version.revision, file=done)
        os.kill(os.getpid(), signal.SIGKILL)
    print("ready", flush=True)

asyncio.run(EventConsumer(sys.argv[1], sys.argv[2], stream="EVENTS", durable="edge-1", env="live", apply=apply,
                          acknowledged_within=1.0).run())
"""


async def test_a_program_killed_before_it_acknowledges_gets_the_same_event_again(
    nats: Nats, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    async with site(nats) as here:
        await here.write(1)
        for _ in range(2):
            with subprocess.Popen(
                [sys.executable, "-c", KILLED, nats.url, here.server, done], stdout=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                if not done.exists():
                    assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
                    await here.write(2)
                assert await asyncio.to_thread(process.wait, 60) == -9
        assert done.read_text() == "2\n2\n"
        program = Program()
        async with here.consumer(program):
            await until(lambda: program.done != [])
        assert program.done in ([2], [("state", 2)])
