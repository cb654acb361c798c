"""The server within its limits: slow, silent and flooding peers cost it nothing that a speaking one would miss."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cfgsync_adapter import MaterializedArtifacts, NotReady, RegistrationConfigSource, RegistrationSnapshot
from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import CfgsyncServerState, HttpServer, StaticConfigSource
from cfgsync_core.server.connection import connections
from tests.routes import routes_of


class Never:
    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts | NotReady:
        return NotReady("never")


@asynccontextmanager
async def server(max_connections: int | None = None) -> AsyncIterator[HttpServer]:
    async with RegistrationConfigSource(Never()) as source:
        routes = routes_of(source)
        async with HttpServer(routes, port=0, max_connections=max_connections) as running:
            yield running
            source.drain()


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


def request(method: str, path: str, body: bytes = b"", extra: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{extra}content-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def status(reader: asyncio.StreamReader) -> int:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split()[1])


def test_every_limit_of_a_connection_is_in_one_place() -> None:
    limits = {
        name: getattr(connections, name)
        for name in dir(connections)
        if name.isupper() and not name.startswith("_")
    }
    assert limits == {
        "MAX_BODY_BYTES": 64 * 1024,
        "KEEP_ALIVE_SECONDS": 15.0,
        "SWEEP_SECONDS": 1.0,
        "MAX_LINE_BYTES": 4096,
        "MAX_HEADERS": 64,
        "LINGER_SECONDS": 1.0,
        "RESERVED_FILES": 64,
        "DRAIN_SECONDS": 4.0,
        "LAST_MESSAGE_SECONDS": 0.25,
        "PIECEWISE_BYTES": 256 * 1024,
        "PIECEWISE_AT_ONCE": 64,
        "STALLED_SECONDS": 0.1,
        "PIECE_SECONDS": 30.0,
        "BACKLOG": 4096,
        "ACCEPTED_AT_ONCE": 16,
    }


@pytest.mark.timed
async def test_a_flood_of_silent_connections_never_keeps_a_speaking_one_out() -> None:
    async with server(max_connections=50) as running:
        speaking = await opened(running.port)
        speaking[1].write(request("POST", "/register", b'{"identifier":"a","ip":"10.0.0.1"}'))
        assert await status(speaking[0]) == 202
        speaking[1].write(request("POST", "/node", b'{"identifier":"a"}', "prefer: wait=20\r\n"))
        await asyncio.sleep(0.1)
        flood = [await opened(running.port) for _ in range(200)]
        began = time.monotonic()
        reader, writer = await opened(running.port)
        writer.write(request("GET", "/livez"))
        assert await status(reader) == 200
        assert time.monotonic() - began < 1
        await asyncio.sleep(0.1)
        gone = sum(reader.at_eof() or reader.exception() is not None for reader, _ in flood)
        assert gone >= 150
        assert not speaking[0].at_eof()  # it is held, and was never idle
        for _, other in [*flood, speaking, (reader, writer)]:
            other.close()


@pytest.mark.timed
async def test_a_body_that_does_not_come_is_ended_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfgsync_core.server.connection.body.BODY_SECONDS", 0.3)
    async with server() as running:
        reader, writer = await opened(running.port)
        writer.write(request("POST", "/register", b"")[:-5] + b"40\r\n\r\n{")
        began = time.monotonic()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert b" 400 " in head
        assert 0.2 < time.monotonic() - began < 2
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"HELLO\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\nauthorization : Bearer canary-secret\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\nauthorization: Bearer canary-secret\x01\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\nauthorization: " + b"canary-secret" * 400 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\n"
        + b"".join(b"x-%d: canary-secret\r\n" % i for i in range(70))
        + b"\r\n",
    ],
)
async def test_a_malformed_head_is_refused_in_json_and_neither_logged_nor_quoted(
    head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with server() as running:
        reader, writer = await opened(running.port)
        writer.write(head)
        answer = await asyncio.wait_for(reader.read(), 5)
        first, _, body = answer.partition(b"\r\n\r\n")
        assert 400 <= int(first.split()[1]) < 500
        assert json.loads(body)["code"] == "invalid_request"
        assert b"canary" not in answer
        assert "canary" not in caplog.text
        writer.close()


async def test_an_abandoned_question_leaves_nothing_behind() -> None:
    source = RegistrationConfigSource(Never())
    async with source, HttpServer(routes_of(source), port=0) as running:
        for i in range(20):
            reader, writer = await opened(running.port)
            writer.write(request("POST", "/register", b'{"identifier":"n%d","ip":"10.0.0.1"}' % i))
            assert await status(reader) == 202
            writer.write(request("POST", "/node", b'{"identifier":"n%d"}' % i, "prefer: wait=20\r\n"))
            await asyncio.sleep(0.01)
            writer.transport.abort()
        await asyncio.sleep(0.2)
        assert source.fleet(1, "").waiting == 0


@asynccontextmanager
async def large_answers(piece_seconds: float) -> AsyncIterator[HttpServer]:
    """Gives everybody 8 MiB, which no socket takes at once."""
    shared = ArtifactSet([ArtifactFile("/large", "x" * 8 * 2**20)])
    source = StaticConfigSource({name: ArtifactSet() for name in "abc"}, shared)
    async with HttpServer(
        CfgsyncServerState(source).routes(), port=0, piece_seconds=piece_seconds
    ) as running:
        yield running


async def asked(running: HttpServer, identifier: str) -> socket.socket:
    """A connection whose owner has asked for a large answer, and has room for little of it."""
    loop = asyncio.get_running_loop()
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    peer.setblocking(False)
    await loop.sock_connect(peer, ("127.0.0.1", running.port))
    await loop.sock_sendall(peer, request("POST", "/node", b'{"identifier":"%s"}' % identifier.encode()))
    return peer


async def cut_after(peer: socket.socket) -> float:
    """Seconds until the connection of a reader that reads nothing is reset. Nothing is read to find that out."""
    began = time.monotonic()
    while not peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        assert time.monotonic() - began < 20, "it is never cut"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def test_a_reader_that_does_not_read_its_answer_is_cut_and_others_are_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with large_answers(piece_seconds=0.5) as running:
        with await asked(running, "a") as silent:
            began = time.monotonic()
            reader, writer = await opened(running.port)
            writer.write(request("POST", "/node", b'{"identifier":"b"}'))
            assert await status(reader) == 200
            writer.close()
            assert time.monotonic() - began < 5
            seconds = await cut_after(silent)
        assert 0.3 < seconds + (time.monotonic() - began) < 10
    assert not caplog.records


async def test_a_reader_that_reads_slowly_gets_the_whole_answer() -> None:
    async with large_answers(piece_seconds=2) as running:
        loop = asyncio.get_running_loop()
        with await asked(running, "c") as slow:
            await asyncio.sleep(5 * connections.STALLED_SECONDS)
            received = 0
            while received < 8 * 2**20:  # for a second and more
                received += len(piece := await loop.sock_recv(slow, 128 * 1024))
                assert piece, f"it was cut after {received} bytes"
                await asyncio.sleep(0.008)


def test_on_uvloop_a_large_answer_is_cut_or_read_as_on_asyncios_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with asyncio.Runner(loop_factory=pytest.importorskip("uvloop").new_event_loop) as runner:
        runner.run(test_a_reader_that_does_not_read_its_answer_is_cut_and_others_are_answered(caplog))
        runner.run(test_a_reader_that_reads_slowly_gets_the_whole_answer())


async def test_a_connection_without_a_request_for_15_seconds_is_closed_and_no_other_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.5)
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.05)
    async with server() as running:
        unused, silent, held, used = [await opened(running.port) for _ in range(4)]
        for reader, writer in (unused, held, used):
            writer.write(request("POST", "/register", b'{"identifier":"a","ip":"10.0.0.1"}'))
            assert await status(reader) == 202
        held[1].write(request("POST", "/node", b'{"identifier":"a","ip":"10.0.0.1"}', "prefer: wait=30\r\n"))
        while not await asyncio.wait_for(closes(unused[0], 0.1), 10):
            used[1].write(
                request("GET", "/healthz")
            )  # nobody says of a request without a body that it is busy
            assert await status(used[0]) == 200
        assert not await closes(silent[0], 0.1)
        assert not await closes(held[0], 0.1)
        assert await closes(used[0], 10)
        for _, writer in (unused, silent, held, used):
            writer.close()


async def closes(reader: asyncio.StreamReader, within: float) -> bool:
    """True when the other side ends the connection within so many seconds, without a byte."""
    try:
        return await asyncio.wait_for(reader.read(1), within) == b""
    except TimeoutError:
        return False
