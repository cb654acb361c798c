"""A reply without an end, on one connection: a stream or a WebSocket. A reader that is too slow for a stream is
disconnected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import WSCloseCode, WSMsgType, web

from ...wire.limits import MAX_BODY_BYTES
from ..route import Reply, RightEnded, WebSocket

SLOW_BYTES = 4 * 1024
"""A reader with more than this unread, beyond the kernel's buffer, is disconnected."""
PING_SECONDS = 15.0
"""A WebSocket whose peer does not answer a ping within half of this is closed."""


async def stream(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Write `reply.stream` until it ends or its reader has gone; the connection closes then."""
    assert reply.stream is not None
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.force_close()

    async def write(piece: bytes) -> None:
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the reader has gone")
        if transport.get_write_buffer_size() > SLOW_BYTES:
            transport.abort()  # a close would wait for data that is never read
            raise ConnectionResetError("the stream is not read")
        await response.write(piece)

    await response.prepare(request)
    with suppress(ConnectionError):  # the reader has gone
        await reply.stream(write)
    return response


class _WebSocket(WebSocket):
    """One WebSocket of the library."""

    def __init__(self, response: web.WebSocketResponse) -> None:
        self._response = response

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._response.send_str(message)
        else:
            await self._response.send_bytes(message)

    async def receive(self) -> str | bytes | None:
        message = await self._response.receive()
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            data: str | bytes = message.data
            return data
        return None


def asks_for_websocket(request: web.BaseRequest) -> bool:
    """Whether the request is the handshake of a WebSocket."""
    return web.WebSocketResponse().can_prepare(request).ok


async def converse(
    request: web.BaseRequest, talk: Callable[[WebSocket], Awaitable[None]]
) -> web.WebSocketResponse:
    """Run `talk` on the WebSocket that the request asks for, then close it."""
    response = web.WebSocketResponse(heartbeat=PING_SECONDS, max_msg_size=MAX_BODY_BYTES)
    await response.prepare(request)
    code, words = WSCloseCode.OK, ""
    try:
        await talk(_WebSocket(response))
    except RightEnded as error:
        code, words = WSCloseCode.POLICY_VIOLATION, str(error)
    except ConnectionError:
        pass  # the caller has gone
    await response.close(code=code, message=words.encode())
    return response
