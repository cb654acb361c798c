"""The HTTP library within our limits: one place for each limit, and a malformed head is answered like every error.

Source: `trust.md`, "Server limits".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from aiohttp.web_protocol import RequestHandler

from .protocol import encode_error

MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 15.0
MAX_LINE_BYTES = 4096
MAX_HEADERS = 64
DRAIN_SECONDS = 4.0
PIECEWISE_BYTES = 256 * 1024
"""A body beyond this is written piece by piece with back-pressure, so that slow readers do not hold copies of it."""
PIECEWISE_AT_ONCE = 64

log = logging.getLogger("cfgsync.http")


class _Protocol(RequestHandler):
    """The library's protocol, but a malformed head is answered in the one shape of every error, and neither logged nor
    quoted: its bytes may be a secret."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that could not be read, or whose handler failed; the connection closes."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        if status >= 500:
            log.error("a request failed: %s", type(exc).__name__, exc_info=exc)
        code, said = ("internal", "the server failed; its log says why") if status >= 500 else _MALFORMED
        response = web.Response(body=encode_error(code, said), status=status, content_type="application/json")
        response.force_close()
        return response


_MALFORMED = ("invalid_request", "this is not an HTTP request that can be read")


def _request(
    message: object, payload: object, protocol: object, writer: object, task: object
) -> web.BaseRequest:
    return web.BaseRequest(
        message,  # type: ignore[arg-type]
        payload,  # type: ignore[arg-type]
        protocol,  # type: ignore[arg-type]
        writer,  # type: ignore[arg-type]
        task,  # type: ignore[arg-type]
        asyncio.get_running_loop(),
        client_max_size=MAX_BODY_BYTES,
    )


class LimitedServer(web.Server):
    """A low-level server of `handler` with every limit set; abandoned requests cancel their handler."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(
            handler,
            request_factory=_request,
            access_log=None,
            logger=log,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            handler_cancellation=True,
            auto_decompress=False,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )

    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class Pieces(Payload):
    """A large body, written in pieces with back-pressure; only so many at once hold the transport's buffers."""

    def __init__(self, chunks: tuple[bytes, ...], at_once: asyncio.Semaphore) -> None:
        super().__init__(chunks, content_type="application/json")
        self._chunks = chunks
        self._at_once = at_once
        self._size = sum(map(len, chunks))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._chunks).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        async with self._at_once:
            for chunk in self._chunks:
                view = memoryview(chunk)
                for start in range(0, len(view), 64 * 1024):
                    await writer.write(view[start : start + 64 * 1024])
                    await writer.drain()
