"""`GET /watch`: a hint soon after each change, never data, never in the way of anything else."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_core import (
    Acknowledgement,
    HttpServer,
    NodeRegistration,
    Ready,
)
from cfgsync_core.server.watch_stream import ChangingSource, WatchStreams
from tests.routes import routes_of

HELLO = b"retry: 2000\n\nevent: hint\ndata: {}\n\n"
HINT = b"event: hint\ndata: {}\n\n"


class Two:
    """Ready with two nodes; asks to be asked again soon."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        if len(registrations) < 2:
            return NotReady("waiting for a second node", retry_after=0.02)
        return MaterializedArtifacts.from_nodes(
            {r.identifier: [ArtifactFile("/id", r.identifier)] for r in registrations}
        )


class Changing:
    """A source of changes by hand."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[], None]] = []

    def subscribe(self, heard: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(heard)
        return lambda: self.listeners.remove(heard)

    def change(self) -> None:
        for heard in self.listeners:
            heard()


OPENED: list[asyncio.StreamWriter] = []


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()
    await asyncio.sleep(0)


class Page:
    """One reader of `/watch`, over a socket of its own: `hear()` gives the next piece of the body."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.head = ""

    @classmethod
    async def open(cls, port: int, method: str = "GET") -> Page:
        page = cls(*await asyncio.open_connection("127.0.0.1", port))
        OPENED.append(page.writer)
        page.writer.write(f"{method} /watch HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        page.head = (await asyncio.wait_for(page.reader.readuntil(b"\r\n\r\n"), 10)).decode()
        page.status = int(page.head.split()[1])
        return page

    async def hear(self, within: float = 5) -> bytes:
        """The next chunk; empty when the stream has ended as it should."""
        async with asyncio.timeout(within):
            size = int(await self.reader.readline(), 16)
            piece = await self.reader.readexactly(size)
            assert await self.reader.readline() == b"\r\n"
            return piece


@asynccontextmanager
async def watching(source: ChangingSource, **more: float) -> AsyncIterator[tuple[HttpServer, WatchStreams]]:
    pages = WatchStreams(source, **more)  # type: ignore[arg-type]
    async with HttpServer(pages.routes(), port=0) as server:
        yield server, pages
        server.drain()
        pages.close()


async def quiet(page: Page, seconds: float) -> bool:
    try:
        await page.hear(seconds)
    except TimeoutError:
        return True
    return False


async def test_each_change_of_the_fleet_is_a_hint_and_a_hint_has_no_data() -> None:
    async with RegistrationConfigSource(Two()) as source:
        pages = WatchStreams(source, lead=0, spacing=0)
        async with HttpServer([*routes_of(source), *pages.routes()], port=0) as server:
            page = await Page.open(server.port)
            assert "Content-Type: text/event-stream" in page.head
            assert await page.hear() == HELLO
            await source.register(NodeRegistration("a", "10.0.0.1"))
            assert await page.hear() == HINT
            while not await quiet(page, 0.2):
                pass  # the run's word about it
            assert source.fleet(0, "").reason == "waiting for a second node"
            asked = source.runs
            assert await quiet(page, 0.5)
            assert source.runs > asked + 2  # it said the same, again and again
            await source.register(NodeRegistration("b", "10.0.0.1"))
            while source.generation is None:
                assert await page.hear() == HINT
            while not await quiet(page, 0.2):
                pass
            given = await source.resolve("a")
            assert isinstance(given, Ready)
            assert given.generation is not None
            said = Acknowledgement("a", given.generation, given.payload.digest, "applied")
            assert await source.acknowledge(said) is None
            assert await page.hear() == HINT
            assert await source.evict("b")
            assert await page.hear() == HINT
            server.drain()
            pages.close()


async def test_changes_of_a_burst_are_one_hint_after_its_lead_and_then_spaced() -> None:
    changing = Changing()
    async with watching(changing, lead=0.05, spacing=0.1) as (server, _):
        page = await Page.open(server.port)
        assert await page.hear() == HELLO
        heard: list[float] = []
        began = time.monotonic()

        async def changes() -> None:
            while time.monotonic() - began < 0.5:
                changing.change()
                await asyncio.sleep(0.005)

        burst = asyncio.create_task(changes())
        while not await quiet(page, 0.3):
            heard.append(time.monotonic() - began)
        await burst
        assert 0.04 < heard[0] < 0.3  # the leading edge
        assert 2 <= len(heard) <= 7  # half a second, at most ten a second and the edges


async def test_a_change_while_nobody_watches_costs_nothing() -> None:
    changing = Changing()
    async with watching(changing) as (server, pages):
        assert changing.listeners == []
        page = await Page.open(server.port)
        assert await page.hear() == HELLO
        assert (len(changing.listeners), len(pages)) == (1, 1)
        changing.change()  # its hint is on the way when the page goes
        page.writer.close()
        while changing.listeners:
            await asyncio.sleep(0.01)
        assert len(pages) == 0


async def test_a_quiet_stream_pings() -> None:
    async with watching(Changing(), ping=0.05) as (server, _):
        page = await Page.open(server.port)
        assert await page.hear() == HELLO
        for _ in range(3):
            assert (await page.hear()).startswith(b":")


@pytest.mark.timed
async def test_closing_ends_every_stream_at_once() -> None:
    async with watching(Changing()) as (server, pages):
        opened = [await Page.open(server.port) for _ in range(20)]
        for page in opened:
            assert await page.hear() == HELLO
        began = time.monotonic()
        server.drain()
        pages.close()
        for page in opened:
            assert await page.hear() == b""
            assert await page.reader.read() == b""  # and the connection closes
        assert time.monotonic() - began < 1
        assert len(pages) == 0


async def test_one_page_too_many_is_told_to_come_back() -> None:
    async with watching(Changing(), at_most=2) as (server, pages):
        kept = [await Page.open(server.port) for _ in range(2)]
        refused = await Page.open(server.port)
        assert (refused.status, "Retry-After: 1" in refused.head) == (503, True)
        kept[0].writer.close()
        while len(pages) == 2:
            await asyncio.sleep(0.01)
        assert (await Page.open(server.port)).status == 200


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
async def test_another_method_is_405(method: str) -> None:
    async with watching(Changing()) as (server, _):
        page = await Page.open(server.port, method)
        assert (page.status, "Allow: GET\r\n" in page.head) == (405, True)


async def test_a_reader_that_does_not_read_is_dropped_and_others_hear_on() -> None:
    changing = Changing()
    async with watching(changing, lead=0, spacing=0) as (server, pages):
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")
        page = await Page.open(server.port)
        assert await page.hear() == HELLO
        while len(pages) < 2:
            await asyncio.sleep(0.01)
        kept = next(
            t
            for one in server._server.connections
            if (t := one.transport) and t.get_extra_info("peername") == deaf.getsockname()
        )
        kept.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        async with asyncio.timeout(30):
            while len(pages) == 2:
                changing.change()
                assert await page.hear() == HINT
        deaf.close()


async def test_a_stream_is_not_what_a_flood_pushes_out() -> None:
    changing = Changing()
    pages = WatchStreams(changing, lead=0, spacing=0)
    async with HttpServer(pages.routes(), port=0, max_connections=20) as server:
        page = await Page.open(server.port)
        assert await page.hear() == HELLO
        flood = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(60)]
        changing.change()
        assert await page.hear() == HINT
        for _, writer in flood:
            writer.close()
        server.drain()
        pages.close()


@pytest.mark.parametrize(
    "same",
    [
        test_each_change_of_the_fleet_is_a_hint_and_a_hint_has_no_data,
        test_a_reader_that_does_not_read_is_dropped_and_others_hear_on,
        test_closing_ends_every_stream_at_once,
    ],
)
def test_on_uvloop_whose_transports_are_none_of_asyncios_it_is_the_same(
    same: Callable[[], Coroutine[None, None, None]],
) -> None:
    async def run() -> None:
        await same()
        while OPENED:
            OPENED.pop().close()

    with asyncio.Runner(loop_factory=pytest.importorskip("uvloop").new_event_loop) as runner:
        runner.run(run())
