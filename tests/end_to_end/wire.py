"""What goes over the wire, counted: by a session that sees its own requests, and by a proxy in front of a server."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import aiohttp

Answered = Callable[[str, str, "aiohttp.ClientResponse"], None]


class Seen:
    """The requests of one session. Whose one is, is told by its secret: `Authorization: Bearer <secret>`."""

    def __init__(self) -> None:
        self.requests: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Secret → path → how many requests were begun."""
        self.in_flight: Counter[str] = Counter()
        """Path → requests that are begun and neither answered nor lost."""
        self.lost: Counter[str] = Counter()
        """Path → requests that ended without an answer."""
        self.refused_connections = 0
        """How many of the lost ones never reached a server."""
        self.answered: Answered = lambda secret, path, response: None
        """Called with secret, path and response when an answer's head has come."""


@asynccontextmanager
async def seeing_session() -> AsyncIterator[tuple[aiohttp.ClientSession, Seen]]:
    """A session for a `CfgsyncClient` to use, and what is seen of its requests."""
    seen = Seen()

    def secret_of(headers: object) -> str:
        return str(headers["Authorization"]).removeprefix("Bearer ")  # type: ignore[index]

    async def begun(
        _: aiohttp.ClientSession, __: SimpleNamespace, request: aiohttp.TraceRequestStartParams
    ) -> None:
        seen.requests[secret_of(request.headers)][request.url.path] += 1
        seen.in_flight[request.url.path] += 1

    async def answered(
        _: aiohttp.ClientSession, __: SimpleNamespace, request: aiohttp.TraceRequestEndParams
    ) -> None:
        seen.in_flight[request.url.path] -= 1
        seen.answered(secret_of(request.headers), request.url.path, request.response)

    async def lost(
        _: aiohttp.ClientSession, __: SimpleNamespace, request: aiohttp.TraceRequestExceptionParams
    ) -> None:
        seen.in_flight[request.url.path] -= 1
        if isinstance(request.exception, aiohttp.ClientConnectorError):
            seen.refused_connections += 1
        else:
            seen.lost[request.url.path] += 1

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(begun)
    trace.on_request_end.append(answered)
    trace.on_request_exception.append(lost)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=10.0)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trace_configs=[trace],
    ) as session:
        yield session, seen


_HEAD = re.compile(rb"(POST|GET) (/\S*) HTTP/1\.1\r\n")


class CountingProxy:
    """Passes every byte on to a server and counts the requests in them by path: `proxy.requests`."""

    def __init__(self, port: int) -> None:
        self.requests: Counter[str] = Counter()
        self.connections = 0
        self._to = port
        self._passing: set[asyncio.Task[None]] = set()
        self._transports: list[asyncio.WriteTransport] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            self._transports.append(writer.transport)
            self._passing.add(asyncio.create_task(self._pass_on(reader, writer)))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in self._passing:
                task.cancel()
            await asyncio.gather(*self._passing, return_exceptions=True)
            for transport in self._transports:
                transport.abort()
            await asyncio.sleep(0)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._transports.append(back.transport)

        async def requests() -> None:
            while head := await _read_head(reader):
                found = _HEAD.match(head)
                assert found is not None, head
                self.requests[found[2].decode()] += 1
                length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                back.write(head + (await reader.readexactly(int(length[1])) if length else b""))
            back.write_eof()

        async def answers() -> None:
            while data := await there.read(65536):
                writer.write(data)

        try:
            await asyncio.gather(requests(), answers())
        finally:
            for end in (back, writer):
                end.close()
            for end in (back, writer):
                with suppress(OSError):
                    await end.wait_closed()


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
