"""HTTP in: bytes are decoded here once into a call, within limits, and a reply is written; nothing is decided here.

A low-level `aiohttp.web.Server` with a table of routes: no application, no router, no middleware on the hot path.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote

from aiohttp import web
from aiohttp.payload import Payload

from ..errors import InvalidRequest
from ..wire.headers import ACCEPT, VERSION, parse_etags, parse_wait, takes_extended
from ..wire.limits import MAX_BODY_BYTES
from ..wire.protocol import decode_question, decode_registration
from .access import is_own_name, why_no_operator
from .connections import (
    ACCEPTED_AT_ONCE,
    BODY_SECONDS,
    DRAIN_SECONDS,
    PIECE_SECONDS,
    PIECEWISE_AT_ONCE,
    PIECEWISE_BYTES,
    LimitedServer,
    Pieces,
    accept_few_at_once,
    has_more,
)
from .handlers import RETRY_AFTER_SECONDS, Call, Handler, Reply, failure, refusal
from .openapi import Operation, openapi
from .response import whole
from .route import ROUTES, Route
from .streaming import stream

_POST, _GET = ("POST",), ("GET", "HEAD")

LEGACY = "init-with-node"
"""With this name in the table `/node` also answers under the name that it had in the oldest clients."""


class HttpServer:
    """Serves a handler table on one address: `async with HttpServer(handlers, host, port) as server: server.url`.

    `port` 0 takes a free one. Raises `OSError` when the address is not to be had. Leaving drains: `drain` (a callable,
    e.g. the source's) is called first, so that held requests are answered 503 with `Retry-After`. A reader that takes
    nothing of a large answer for `piece_seconds` is cut off. `operations` are what `/openapi.json` says of routes whose words
    core does not know.
    """

    _server: LimitedServer  # made when the context is entered, in the loop that serves

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        host: str = "127.0.0.1",
        port: int = 4400,
        *,
        max_connections: int | None = None,
        piece_seconds: float = PIECE_SECONDS,
        operations: Sequence[Operation] = (),
    ) -> None:
        self._handlers = handlers
        self._host = host
        self._port = port
        self._draining = False
        self._runner: web.ServerRunner | None = None
        self._max_connections = max_connections
        self._piece_seconds = piece_seconds
        self._piecewise = asyncio.Semaphore(PIECEWISE_AT_ONCE)
        self._openapi = openapi(handlers, operations)
        self.port = port
        self.unread: dict[int, int] = {}
        """Status → how many requests were refused since the start before a handler saw them: a body that is too large,
        too slow, not JSON, or that does not decode."""

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._server.open_connections

    @property
    def evicted(self) -> int:
        """How many connections were closed since the start because one too many came."""
        return self._server.evicted

    @property
    def address(self) -> str:
        """`host:port`, the real port once it listens."""
        return f"[{self._host}]:{self.port}" if ":" in self._host else f"{self._host}:{self.port}"

    @property
    def url(self) -> str:
        """`http://host:port`."""
        return f"http://{self.address}"

    async def __aenter__(self) -> Self:
        self._server = LimitedServer(self._dispatch, self._max_connections)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=DRAIN_SECONDS)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._host, self._port, backlog=ACCEPTED_AT_ONCE)
            await site.start()
        except BaseException:
            await self._runner.cleanup()
            raise
        sockets: list[socket.socket] = site._server.sockets if site._server is not None else []  # type: ignore[attr-defined]
        accept_few_at_once(sockets)
        self.port = sockets[0].getsockname()[1] if sockets else self._port
        return self

    def drain(self) -> None:
        """Answer 503 from now on; what is already answered goes out."""
        self._draining = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drain()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            reply = await self._answer(request)
        except InvalidRequest as error:
            self.unread[error.status] = self.unread.get(error.status, 0) + 1
            reply = refusal(error.status, "invalid_request", str(error))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            reply = failure(error)
        finally:
            self._server.idle(request.protocol)
        if has_more(request.protocol):
            await asyncio.sleep(0)  # who sends many requests at once takes turns with everybody else
        if reply.stream is not None:
            return await self._streamed(request, reply)
        return self._response(request, reply)

    async def _streamed(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        self._server.busy(request.protocol)  # whoever reads a stream is not idle, however little it says
        try:
            return await stream(request, reply)
        finally:
            self._server.idle(request.protocol)

    async def _answer(self, request: web.BaseRequest) -> Reply:
        if self._draining:
            return refusal(
                503,
                "unavailable",
                "this server is stopping",
                {"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        path = request.raw_path
        if path == "/node":
            if request.method != "POST":
                return _wrong_method(_POST)
            headers = request.headers
            body = await _body(request)
            self._server.busy(request.protocol)
            etags = headers.get("If-None-Match")
            prefer = headers.get("Prefer")
            accept = headers.get(ACCEPT)
            return await self._handlers["node"](
                Call(
                    identifier=decode_question(body),
                    bearer=_bearer(headers.get("Authorization")),
                    wait=parse_wait(prefer) if prefer else 0.0,
                    etags=tuple(parse_etags(etags)) if etags else (),
                    extended=accept is not None and takes_extended(accept),
                    version=headers.get(VERSION),
                )
            )
        if path == "/register":
            if request.method != "POST":
                return _wrong_method(_POST)
            registration = decode_registration(await _body(request))
            self._server.busy(request.protocol)
            return await self._handlers["register"](
                Call(
                    identifier=registration.identifier,
                    registration=registration,
                    bearer=_bearer(request.headers.get("Authorization")),
                )
            )
        return await self._other(request, path)

    async def _other(self, request: web.BaseRequest, target: str) -> Reply:
        """The routes that are not hot, and the unusual spellings of those that are (absolute form, a query)."""
        if "://" in target[:12]:
            rest = target.split("://", 1)[1]
            target = "/" + rest.partition("/")[2]
        path, _, query = target.partition("?")
        if path in ("/node", "/register") and path != request.raw_path:
            return await self._answer(_Respelled(request, path))  # type: ignore[arg-type]
        if path == f"/{LEGACY}" and LEGACY in self._handlers:
            return await self._answer(_Respelled(request, "/node"))  # type: ignore[arg-type]
        if path == "/openapi.json":
            return Reply(200, (self._openapi,)) if request.method in _GET else _wrong_method(_GET)
        route = ROUTES.get(path)
        if route is not None and route.name in self._handlers:
            return await self._tabled(request, route, query)
        if path.startswith("/status/") and "status" in self._handlers:
            identifier = unquote(path[len("/status/") :])
            if identifier and "/" not in identifier:
                if request.method not in _GET:
                    return _wrong_method(_GET)
                return await self._handlers["status"](Call(identifier=identifier[:200]))
        return refusal(404, "not_found", f"no such route: {path[:100]}")

    async def _tabled(self, request: web.BaseRequest, route: Route, query: str) -> Reply:
        """A route of the table: its method, who may call it, its body."""
        allowed = _POST if route.method == "POST" else _GET if route.head else ("GET",)
        if request.method not in allowed:
            return _wrong_method(allowed)
        call = _page(query)
        if route.operator or route.method == "GET":
            headers = request.headers
            why_not = why_no_operator(request.remote, headers, self.port)
            if route.operator and why_not is not None:
                return refusal(403, "forbidden", why_not)
            call.operator = why_not is None
            call.own_name, call.accept = is_own_name(headers.get("Host", "")), headers.get("Accept", "")
        if route.method == "POST":
            call.body = await _body(request, route.max_body_bytes)
            call.bearer = _bearer(request.headers.get("Authorization"))
            self._server.busy(request.protocol)
        return await self._handlers[route.name](call)

    def _response(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        chunks = reply.chunks
        if len(chunks) > 1 and sum(map(len, chunks)) > PIECEWISE_BYTES:
            body: bytes | Payload = Pieces(chunks, self._piecewise, self._piece_seconds)
        else:
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            if not self._draining and (plain := whole(request, reply, body)) is not None:
                return plain
        if not body:
            response = web.Response(status=reply.status, headers=reply.headers)
        else:
            kind = {"Content-Type": "application/json"}
            response = web.Response(body=body, status=reply.status, headers={**kind, **reply.headers})
        if self._draining:
            response.force_close()
        return response


class _Respelled:
    """A request whose target names a hot route in another spelling."""

    def __init__(self, request: web.BaseRequest, path: str) -> None:
        self._request = request
        self.raw_path = path

    def __getattr__(self, name: str) -> object:
        return getattr(self._request, name)


async def _body(request: web.BaseRequest, at_most: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, within size and time. Raises `InvalidRequest` (413, 415, 400)."""
    kind = request.headers.get("Content-Type", "")
    if kind != "application/json" and not _is_json(kind):
        raise InvalidRequest(415, "Expected request with `Content-Type: application/json`")
    content = request.content
    if content.is_eof():
        body = content.read_nowait(-1)
    else:
        length = request.content_length
        if length is not None and length > at_most:
            raise InvalidRequest(413, f"the body is {length} bytes, at most {at_most} are taken")
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer itself has not begun
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while part := await content.readany():
                    parts.append(part)
                    size += len(part)
                    if size > at_most:
                        break
        except TimeoutError:
            raise InvalidRequest(400, f"the body did not come within {BODY_SECONDS:g} s") from None
        except Exception as error:
            raise InvalidRequest(400, f"the body could not be read: {type(error).__name__}") from error
        body = b"".join(parts)
    if len(body) > at_most:
        raise InvalidRequest(413, f"the body is over {at_most} bytes")
    return body


def _is_json(kind: str) -> bool:
    essence = kind.partition(";")[0].strip().lower()
    return essence == "application/json" or (essence.startswith("application/") and essence.endswith("+json"))


def _bearer(authorization: str | None) -> str | None:
    if not authorization:
        return None
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def _wrong_method(allowed: tuple[str, ...]) -> Reply:
    names = ", ".join(allowed)
    return refusal(405, "method_not_allowed", f"this route takes {names}", {"Allow": names})


def _page(query: str) -> Call:
    if not query:
        return Call()
    words = {name: values[0] for name, values in parse_qs(query).items()}
    limit = 1_000
    with suppress(ValueError):
        limit = max(1, min(int(words.get("limit", "1000")), 1_000))
    return Call(limit=limit, after=words.get("after", ""), query=words)
