"""The HTTP server: a request becomes a call of its route, within limits, and the reply is written.

A low-level `aiohttp.web.Server` with a table of routes: no application, no router, no middleware on the hot path.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web
from aiohttp.payload import Payload

from ..errors import InvalidRequest
from ..wire.limits import MAX_BODY_BYTES
from .access import Access, LocalOperators, judged_headers
from .connection.body import read_body
from .connection.connections import (
    DRAIN_SECONDS,
    PIECE_SECONDS,
    PIECEWISE_AT_ONCE,
    PIECEWISE_BYTES,
    LimitedServer,
    Pieces,
    has_more,
)
from .connection.endless import asks_for_websocket, converse, stream
from .connection.forwarded import TrustedProxies
from .connection.listening import Acceptor, address_of, listening_sockets
from .connection.parser import require_strict_parser
from .connection.response import whole
from .route import Call, Reply, Route, failure, refusal, unavailable
from .route_table import RouteTable

if TYPE_CHECKING:
    import ssl


_WEBSOCKET: Final = {"Upgrade": "websocket"}


class HttpServer:
    """Serves routes: `async with HttpServer(routes, host, port) as server: server.url`.

    `host` is one address or name, or several, which share the port; `::` hears IPv4 too. `port` 0 takes a free one. `access`
    decides each call (default: an operator's routes answer on a Unix socket only). With `tls`, which gives the context of the
    moment, the addresses speak TLS. A proxy in `trusted_proxies` (`10.0.0.0/8`, `::1`) names the client in `X-Forwarded-For`.
    Raises `OSError` for an address that is not available, and `ParserMissing`. `drain` answers every new request 503 with `Retry-After`, and
    so does leaving the context. A reader that takes nothing of a large answer for `piece_seconds` is cut off.
    """

    _server: LimitedServer  # made when the context is entered, in the loop that serves

    def __init__(
        self,
        routes: Sequence[Route],
        host: str | Sequence[str] = "127.0.0.1",
        port: int = 4400,
        *,
        access: Access | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        trusted_proxies: Sequence[str] = (),
        max_connections: int | None = None,
        piece_seconds: float = PIECE_SECONDS,
    ) -> None:
        self._table = RouteTable(routes)
        self._access = LocalOperators() if access is None else access
        self._hosts = (host,) if isinstance(host, str) else tuple(host)
        self._port = port
        self._tls = tls
        self._proxies = TrustedProxies(trusted_proxies)
        self._draining = False
        self._runner: web.ServerRunner | None = None
        self._acceptors: list[Acceptor] = []
        self._max_connections = max_connections
        self._piece_seconds = piece_seconds
        self._piecewise = asyncio.Semaphore(PIECEWISE_AT_ONCE)
        self.port = port
        self._listens: tuple[str, ...] = ()
        self.unread: dict[int, int] = {}
        """Status → requests refused since the start before a handler saw them: the body was too large, too slow, not
        JSON, or invalid."""

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._server.open_connections

    @property
    def evicted(self) -> int:
        """The number of connections closed since the start because there were too many."""
        return self._server.evicted

    @property
    def urls(self) -> list[str]:
        """`http://host:port` of each host, `https://` with TLS; the real port once it listens."""
        scheme = "http" if self._tls is None else "https"
        return [f"{scheme}://{address_of(host, self.port)}" for host in self._hosts]

    @property
    def url(self) -> str:
        """The first of `urls`."""
        return self.urls[0]

    async def __aenter__(self) -> Self:
        require_strict_parser()
        self._server = LimitedServer(self._dispatch, self._max_connections)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=DRAIN_SECONDS)
        await self._runner.setup()
        try:
            sockets = await listening_sockets(self._hosts, self._port)
        except BaseException:
            await self._stop()
            raise
        self.port = sockets[0].getsockname()[1]
        self._listens = tuple(self.urls)
        self._acceptors = [Acceptor(one, self._server, self._tls) for one in sockets]
        return self

    def listen(self, on: socket.socket) -> None:
        """Serve on a bound socket, too; leaving the context closes it."""
        on.setblocking(False)
        self._acceptors.append(Acceptor(on, self._server))

    def drain(self) -> None:
        """Answer 503 from now on."""
        self._draining = True

    async def __aexit__(self, *error: object) -> None:
        self.drain()
        await self._stop()

    async def _stop(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        if self._runner is not None:
            await self._runner.cleanup()
            await self._server.ended()

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            reply = await self._answer(request)
        except Exception as error:
            reply = self._failed(error)
        finally:
            self._server.idle(request.protocol)
        if has_more(request.protocol):
            await asyncio.sleep(0)  # a connection with many requests takes turns with the others
        if reply.stream is not None or reply.converse is not None:
            return await self._endless(request, reply)
        return self._response(request, reply)

    async def _endless(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        self._server.busy(request.protocol)  # the reader of a stream is never idle
        try:
            if reply.converse is None:
                return await stream(request, reply)
            return await converse(request, reply.converse)
        finally:
            self._server.idle(request.protocol)

    async def _answer(self, request: web.BaseRequest) -> Reply:
        if self._draining:
            return unavailable("this server is stopping")
        found = self._table.find(request.method, request.raw_path)
        if isinstance(found, Reply):
            return found
        route, names, query = found
        call = Call(request.headers, names, query)
        try:
            reply = await self._routed(request, route, call)
            if reply.converse is not None and not asks_for_websocket(request):
                reply = refusal(426, "invalid_request", "this route takes a WebSocket", _WEBSOCKET)
        except Exception as error:
            reply = self._failed(error)
        except asyncio.CancelledError:  # the caller has gone; what it asked for may be done
            if route.access != "node":
                self._access.answered(route, call, None)
            raise
        if route.access != "node":
            self._access.answered(route, call, reply)
        return reply if reply.status < 400 or route.errors is None else route.errors(reply)

    def _failed(self, error: Exception) -> Reply:
        if not isinstance(error, InvalidRequest):
            return failure(error)
        self.unread[error.status] = self.unread.get(error.status, 0) + 1
        return refusal(error.status, "invalid_request", str(error))

    async def _routed(self, request: web.BaseRequest, route: Route, call: Call) -> Reply:
        if route.access != "node" or route.name == "register":
            call.address = self._proxies.client(request.remote or "", request.headers)
        if route.access != "node":
            call.peer = self._server.peers.get(request.protocol)
            transport = request.transport
            has_tls = transport is not None and transport.get_extra_info("ssl_object") is not None
            claimed = self._proxies.scheme(request.remote or "", request.headers)
            call.scheme = claimed or ("https" if has_tls else "")
            call.listens = self._listens
        call.headers = judged_headers(request.raw_path, request.headers)
        if route.access != "node":
            refused = self._access.before_body(route, call)
            if refused is not None:
                return refused
        takes = route.body
        if takes is not None:
            call.body = body = await read_body(request, takes.at_most, form=takes.form)
            self._server.busy(request.protocol)
            decode = takes.decode
            call.value = (
                decode(body) if len(body) <= MAX_BODY_BYTES else await asyncio.to_thread(decode, body)
            )
        return await self._access.answer(route, call)

    def _response(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        # of a body that has not come whole, the rest could be taken for the next request, or that for the rest
        closes = self._draining or not request.content.is_eof()
        chunks = reply.chunks
        if len(chunks) > 1 and sum(map(len, chunks)) > PIECEWISE_BYTES:
            body: bytes | Payload = Pieces(chunks, self._piecewise, self._piece_seconds)
        else:
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            if not closes and (plain := whole(request, reply, body)) is not None:
                return plain
        if not body:
            response = web.Response(status=reply.status, headers=reply.headers)
        else:
            kind = {"Content-Type": "application/json"}
            response = web.Response(body=body, status=reply.status, headers={**kind, **reply.headers})
        if closes:
            response.force_close()
        return response
