"""aiohttp's server with our limits, and with our error body for a malformed request."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import takewhile
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from aiohttp.web_protocol import RequestHandler

from ...log_events import event
from ...wire.limits import MAX_BODY_BYTES
from ...wire.protocol import encode_error
from ..access import peer_user

KEEP_ALIVE_SECONDS = 15.0
SWEEP_SECONDS = 1.0
"""How often connections that nobody uses are looked for: a timer of each costs an idle fleet two wakes a question."""
_NO_TIMER = 1e9
MAX_LINE_BYTES = 4096
MAX_HEADERS = 64
LINGER_SECONDS = 1.0
"""How long the rest of a refused body is read, so that its sender sees the answer and not a reset."""
RESERVED_FILES = 64
DRAIN_SECONDS = 4.0
LAST_MESSAGE_SECONDS = 0.25
"""How long a server that ends waits for connections that are closed, and are not ended by their peer."""
PIECEWISE_BYTES = 256 * 1024
"""A body beyond this is written piece by piece with back-pressure, so that slow readers do not hold copies of it."""
PIECEWISE_AT_ONCE = 64
_PIECE_BYTES = 64 * 1024
STALLED_SECONDS = 0.1
"""A reader that has not taken a piece after this gives its place among the `PIECEWISE_AT_ONCE` to another."""
PIECE_SECONDS = 30.0
"""The connection of a reader that has not taken a piece after this is closed."""
BACKLOG = 4096
ACCEPTED_AT_ONCE = 16
"""Connections that are accepted in one turn of the event loop: those that are closed for them close in the next one."""

log = logging.getLogger("cfgsync.http")


class _Protocol(RequestHandler):
    """Answers a malformed request with our error body, and neither logs nor quotes it: it may hold a secret."""

    __slots__ = ()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """The library calls this for each body; it would ask its parser and the transport also where nothing was paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that could not be read or whose handler failed; the connection closes."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        if status >= 500:
            log.error("a request failed: %s", type(exc).__name__, exc_info=exc, extra=event("request_failed"))
        code, message_text = (
            ("internal", "the server failed; its log says why") if status >= 500 else _MALFORMED
        )
        response = web.Response(
            body=encode_error(code, message_text), status=status, content_type="application/json"
        )
        response.force_close()
        return response


_MALFORMED = ("invalid_request", "this is not an HTTP request that can be read")


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)


class LimitedServer(web.Server):
    """A low-level server of `handler` with every limit set; abandoned requests cancel their handler.

    At most `max_connections` are open (default: the limit of open files less a reserve). One more closes the connection
    that has been idle for longest, so a flood of silent or slow ones keeps no active one out.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        max_connections: int | None = None,
    ) -> None:
        self._most = max_connections if max_connections is not None else _connections_allowed()
        self._open: dict[RequestHandler, Callable[[], object]] = {}  # what ends each
        self._idle: dict[RequestHandler, float] = {}  # since when, the longest idle first
        self._sweep: asyncio.TimerHandle | None = None
        self.peers: dict[RequestHandler, int] = {}
        """The user at the other end of each connection to a Unix socket."""
        self.evicted = 0
        self._none_open = asyncio.Event()
        self._none_open.set()
        super().__init__(
            handler,
            request_factory=_request,
            access_log=None,
            logger=log,
            keepalive_timeout=_NO_TIMER,
            lingering_time=LINGER_SECONDS,
            handler_cancellation=True,
            auto_decompress=False,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )

    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)

    def accepted(self, handler: RequestHandler, end: Callable[[], object]) -> None:
        """A connection is open from here on, whatever its handshake does, and begins idle; `end` closes it until it is made."""
        self._open[handler] = end
        self._idle[handler] = self._loop.time()
        self._none_open.clear()
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_SECONDS, self._close_unused)
        if len(self._open) > self._most:
            longest = next(iter(self._idle))
            del self._idle[longest]
            self.evicted += 1
            self._open.pop(longest)()

    def given_up(self, handler: RequestHandler) -> None:
        """An accepted connection that will not be made."""
        self._open.pop(handler, None)
        self._idle.pop(handler, None)
        if not self._open:
            self._none_open.set()

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """An accepted connection has its transport."""
        super().connection_made(handler, transport)
        if handler not in self._open:  # it was closed meanwhile, since there were too many
            transport.abort()
            return
        self._open[handler] = transport.abort
        one = transport.get_extra_info("socket")
        if one.family == socket.AF_UNIX:
            with socket.fromfd(
                one.fileno(), one.family, one.type
            ) as same:  # some loops' own has fewer methods
                self.peers[handler] = peer_user(same)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """See `connection_made`."""
        self.given_up(handler)
        self.peers.pop(handler, None)
        super().connection_lost(handler, exc)

    async def ended(self) -> None:
        """End the connections that are closed and wait for their peer's last message, as TLS does: the loop ends soon."""
        for _ in range(2):
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_MESSAGE_SECONDS):
                    await self._none_open.wait()
            for end in tuple(self._open.values()):
                end()

    @property
    def open_connections(self) -> int:
        """The number of open connections."""
        return len(self._open)

    def busy(self, handler: RequestHandler) -> None:
        """This connection has a request to answer: it stays open until then."""
        self._idle.pop(handler, None)

    def idle(self, handler: RequestHandler) -> None:
        """This connection's request is answered."""
        if handler in self._open:
            self._idle.pop(
                handler, None
            )  # it may be there: of a request without a body nobody says that it is busy
            self._idle[handler] = self._loop.time()

    def _close_unused(self) -> None:
        until = self._loop.time() - KEEP_ALIVE_SECONDS
        for handler in [
            handler for handler, since in takewhile(lambda one: one[1] <= until, self._idle.items())
        ]:
            if is_unused(handler):
                handler.force_close()
        self._sweep = self._loop.call_later(SWEEP_SECONDS, self._close_unused) if self._open else None


def has_more(handler: RequestHandler) -> bool:
    """True when more requests of this connection have arrived (pipelining); the library would answer them all before
    another connection has a turn."""
    return bool(handler._messages)


def is_unused(handler: RequestHandler) -> bool:
    """True when the connection has had a request, and no other one has begun to come."""
    waiter = handler._waiter
    return waiter is not None and not waiter.done() and handler._request_count > 0


def _connections_allowed() -> int:
    """The limit of open files, less those that the store, the log and the child process need."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft - RESERVED_FILES, 16) if soft != resource.RLIM_INFINITY else 1_000_000


class Pieces(Payload):
    """A large body, written in pieces with back-pressure; `at_once` limits how many fill the transport's buffers. A
    reader that has not taken a piece after `piece_seconds` is cut off."""

    def __init__(
        self, chunks: tuple[bytes, ...], at_once: asyncio.Semaphore, piece_seconds: float = PIECE_SECONDS
    ) -> None:
        super().__init__(chunks, content_type="application/json")
        self._chunks = chunks
        self._at_once = at_once
        self._piece_seconds = piece_seconds
        self._size = sum(map(len, chunks))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._chunks).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for chunk in self._chunks:
            view = memoryview(chunk)
            for start in range(0, len(view), _PIECE_BYTES):
                await self._write(writer, view[start : start + _PIECE_BYTES])

    async def _write(self, writer: AbstractStreamWriter, piece: memoryview) -> None:
        async with self._at_once:
            # a task, since a cancelled drain of the library leaves every later one cancelled, too
            taken = asyncio.create_task(_taken(writer, piece))
            try:
                await asyncio.wait([taken], timeout=STALLED_SECONDS)
            except asyncio.CancelledError:
                taken.cancel()
                raise
        try:
            if not taken.done():  # outside of `at_once`: a faster reader goes first
                await asyncio.wait([taken], timeout=self._piece_seconds)
            if not taken.done():
                _reset(writer.transport)
                raise ConnectionResetError("the answer is not read")
            taken.result()
        finally:
            taken.cancel()


async def _taken(writer: AbstractStreamWriter, piece: memoryview) -> None:
    await writer.write(piece)
    await writer.drain()


def _reset(transport: asyncio.WriteTransport | None) -> None:
    """End a connection and drop its unsent data, which the kernel would keep for minutes after a close."""
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        transport.abort()
