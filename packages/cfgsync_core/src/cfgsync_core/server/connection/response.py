"""A whole answer, head and body in one write: the library's own response costs a fifth of a request.

Only for HTTP/1.1, a connection that stays open and a body in memory; anything else goes through `aiohttp.web.Response`.
The bytes are the same (a test compares them).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11

from ..route import Reply

_LINE: Final = {int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n" for status in HTTPStatus}
_BODILESS: Final = frozenset((204, 304))
_SERVER: Final = f"\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"


def whole(request: web.BaseRequest, reply: Reply, body: bytes) -> web.StreamResponse | None:
    """The answer as it is sent, or None when the request needs the library's response."""
    if not request.keep_alive or request.version != HttpVersion11 or request.method == "HEAD":
        return None
    line = _LINE.get(reply.status)
    if line is None:
        return None
    head = (
        line if not body or "Content-Type" in reply.headers else f"{line}Content-Type: application/json\r\n"
    )
    for name, value in reply.headers.items():
        if "\n" in value or "\r" in value:
            return None  # the library raises for it
        head += f"{name}: {value}\r\n"
    if body or reply.status not in _BODILESS:
        head += f"Content-Length: {len(body)}\r\n"
    return _PlainResponse(b"".join((f"{head}Date: {rfc822_formatted_time()}{_SERVER}".encode(), body)))


class _PlainResponse(web.StreamResponse):
    """As little of a response as the library needs."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._keep_alive = True

    async def prepare(self, request: web.BaseRequest) -> None:
        self._req = request

    async def write_eof(self, data: bytes = b"") -> None:
        assert self._req is not None
        transport = self._req.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the node has gone")
        transport.write(self._data)
        await self._req.writer.drain()
