"""A program that acts on changes, over a real NATS: in order, once in effect, and from a snapshot where events are missing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import nats as client_of
import pytest
from nats.js import JetStreamContext

from cfgsync_core import InvalidRequest, MemoryStore
from cfgsync_core.store import epoch_ms, mint_epoch, uuid7
from cfgsync_documents.integrations.nats_events import (
    ConfigChanged,
    ConfigState,
    DurableTaken,
    EventConsumer,
)
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
        self,
        nats: Nats,
        server: str,
        session: aiohttp.ClientSession,
        stream: JetStreamContext,
        store: MemoryStore,
    ) -> None:
        self.nats = nats
        self.server = server
        self.stream = stream
        self.store = store
        self._session = session

    async def write(self, *numbers: int, env: str = "live") -> None:
        for number in numbers:
            async with self._session.post(
                f"{ROOT}/limits", json={"x": number}, params={"environment": env}
            ) as reply:
                assert reply.status == 200

    async def send(self, **more: object) -> None:
        """An event that no server has sent."""
        version = await self.store.version("config/default/live")
        event = {"epoch": version.epoch, "version": 9, "previous": 8, "timestamp": "", **more}
        await self.stream.publish(SUBJECT, json.dumps(event).encode())

    async def acknowledged(self) -> None:
        """Return when nothing of the stream is left to be read."""
        async with asyncio.timeout(30):
            while True:
                info = await self.stream.consumer_info(STREAM, "edge-1")
                if not info.num_pending and not info.num_ack_pending:
                    return
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def consumer(
        self, program: Program, interval: float = 3600.0, env: str = "live", within: float = 2.0
    ) -> AsyncIterator[EventConsumer]:
        made = EventConsumer(
            self.nats.url,
            self.server,
            stream=STREAM,
            durable="edge-1",
            env=env,
            apply=program.apply,
            interval=interval,
            acknowledged_within=within,
        )
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def site(nats: Nats, after: str = "") -> AsyncIterator[Site]:
    store = MemoryStore(after=after)
    async with (
        serving_documents(store=store, hints=nats.url, events_stream=STREAM, open_documents=True) as server,
        aiohttp.ClientSession(server.url) as session,
        await client_of.connect(nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0) as bus,
    ):
        made = Site(nats, server.url, session, bus.jetstream(), store)
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


LATER = "7ffff000-0000-7fff-bfff-ffffffffffff"
NO_EVENTS = {
    "too deep": b'{"x":' + b"[" * 100_000,
    "not UTF-8": b'{"epoch": "\xff"}',
    "a long number": b'{"version": ' + b"9" * 5_000 + b"}",
    "a number that is too large": b'{"epoch": "%b", "version": 1%b}' % (LATER.encode(), b"0" * 30),
    "no epoch": b'{"epoch": "zz", "version": 9, "previous": 0, "timestamp": ""}',
    "a negative revision": b'{"epoch": "%b", "version": -1, "previous": 0, "timestamp": ""}' % LATER.encode(),
    "nothing": b"",
}


@pytest.mark.parametrize("body", NO_EVENTS.values(), ids=NO_EVENTS.keys())
async def test_what_is_no_event_stops_nobody_also_as_the_cursor_of_the_next_start(
    nats: Nats, body: bytes
) -> None:
    async with site(nats) as here:
        await here.write(1)
        program = Program()
        async with here.consumer(program) as consumer:
            await until(lambda: consumer.state == "CURRENT")
            await here.stream.publish(SUBJECT, body)
            await here.write(2)
            await until(lambda: program.done == [("state", 1), 2])
            await here.stream.publish(SUBJECT, body)
            await here.acknowledged()
        again = Program()
        async with here.consumer(again) as consumer:
            await until(lambda: consumer.state == "CURRENT")
            assert again.done == [("state", 2)], "no event says where it was"


async def test_an_event_that_the_service_does_not_have_is_skipped_after_one_look(
    nats: Nats, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(nats) as here:
        await here.write(1)
        program = Program()
        async with here.consumer(program) as consumer:
            await until(lambda: consumer.state == "CURRENT")
            forged = [{"version": 99, "previous": 98}, {"epoch": LATER}, {"epoch": LATER, "version": 1}]
            for one in [*forged, *forged]:
                await here.send(**one)
            await here.acknowledged()  # else the look for the first one may find the next write already
            await here.write(2)
            await until(lambda: program.done == [("state", 1), 2])
            await here.acknowledged()
            await until(lambda: consumer.state == "CURRENT")
            await here.send(epoch=LATER)
            await here.acknowledged()
        again = Program()
        async with here.consumer(again) as consumer:
            await here.send(epoch=LATER, version=10, previous=9)  # it joins on to the cursor
            await until(lambda: consumer.state == "CURRENT")
            await here.acknowledged()
        assert again.done == [("state", 2)]
    said = [one.message for one in caplog.records if "such events are skipped" in one.message]
    assert len(said) == 2, "once a program"


async def test_two_fleets_on_one_stream_cost_the_programs_of_none_an_event(nats: Nats) -> None:
    async with site(nats) as one, site(nats, after=uuid7(epoch_ms(mint_epoch()) + 3_600_000)) as two:
        programs = [Program(), Program()]
        await one.write(1)
        await two.write(1, 2)
        async with one.consumer(programs[0]) as first:
            await until(lambda: first.state == "CURRENT")
            for number in range(3, 9):
                await two.write(number)
                await one.acknowledged()
                await one.write(number)
            await until(lambda: programs[0].done == [("state", 1), 2, 3, 4, 5, 6, 7])
            await until(lambda: first.state == "CURRENT")


async def test_a_new_epoch_of_the_service_is_followed_also_after_events_of_it_were_skipped(
    nats: Nats,
) -> None:
    async with site(nats) as here:
        await here.write(1)
        program = Program()
        async with here.consumer(program, interval=0.1) as consumer:
            await until(lambda: consumer.state == "CURRENT")
            later = uuid7(epoch_ms(mint_epoch()) + 3_600_000)
            await here.send(epoch=later)
            await until(lambda: later in consumer._foreign)
            await here.store.new_epoch()
            await here.write(2)
            await until(lambda: json.loads(program.documents["default/limits"]) == {"x": 2})
            await here.write(3)
            await until(lambda: program.done[-1] in (3, ("state", 3)))


async def test_a_durable_of_another_environment_is_refused_with_the_next_step(nats: Nats) -> None:
    async with site(nats) as here:
        await here.write(1)
        program = Program()
        async with here.consumer(program, env="Live") as consumer:
            await until(lambda: consumer.state == "CURRENT")
        made = EventConsumer(
            nats.url, here.server, stream=STREAM, durable="edge-1", env="live", apply=program.apply
        )
        with pytest.raises(DurableTaken, match=r"is of another program, for config\.default.Live\.changed"):
            await made.run()


@pytest.mark.parametrize("durable", ["edge.1", "", "a b", "a*", "a/b", "x" * 201])
async def test_a_name_that_nats_does_not_take_is_refused_when_it_is_given(durable: str) -> None:
    for given in ({"durable": durable, "stream": "EVENTS"}, {"durable": "edge-1", "stream": durable}):
        with pytest.raises(InvalidRequest, match=r"(durable|stream) must"):
            EventConsumer("nats://127.0.0.1:1", "http://127.0.0.1:1", apply=Program().apply, **given)


async def test_a_program_that_shares_its_durable_is_current_only_at_the_head_and_says_so(
    nats: Nats, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(nats) as here:
        await here.write(1)
        programs = [Program(), Program()]
        async with here.consumer(programs[0]) as one, here.consumer(programs[1]) as two:
            await until(lambda: one.state == two.state == "CURRENT")
            for number in range(2, 14):
                await here.write(number)
            await until(lambda: one.version.revision == two.version.revision == 13)
            await until(lambda: one.state == two.state == "CURRENT")
            await until(lambda: "another program uses this durable" in caplog.text)


async def test_an_event_that_is_never_acknowledged_holds_up_no_program(nats: Nats) -> None:
    """As after a kill of NATS that has lost the acknowledgement."""
    async with site(nats) as here:
        await here.write(1)
        program = Program()
        async with here.consumer(program, within=3600.0) as consumer:
            await until(lambda: consumer.state == "CURRENT")
        other = await here.stream.pull_subscribe(SUBJECT, durable="edge-1", stream=STREAM)
        await here.write(2)
        async with asyncio.timeout(30):
            while not (await other.consumer_info()).num_ack_pending:
                with suppress(TimeoutError):  # the program that has gone may have got it
                    await other.fetch(1, timeout=1)
        again = Program()
        async with here.consumer(again, within=3600.0) as consumer:
            await until(lambda: consumer.state == "CURRENT")
            for number in range(3, 6):
                await here.write(number)
            await until(lambda: consumer.version.revision == 5)


async def test_a_nats_that_refuses_the_program_for_a_while_is_read_again(
    nats: Nats, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(nats) as here:
        await here.write(1)
        program = Program()
        async with here.consumer(program) as consumer:
            await until(lambda: consumer.state == "CURRENT")
            nats.configure('authorization { user: "ana", password: "another" }')
            await until(lambda: consumer.state == "STALE")
            assert "for edge-1: nats: authorization failed; trying again" in caplog.text
            nats.configure("")
            await until(lambda: consumer.state == "CURRENT")
            await here.write(2)
            await until(lambda: program.done[-1] in (2, ("state", 2)))


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
