"""A reply without an end, written to one connection; a reader that does not keep up is dropped and not buffered for."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from .handlers import Reply

SLOW_BYTES = 4 * 1024
"""More than this still unread, beyond what the kernel holds, and the reader is dropped."""


async def stream(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Write `reply.stream` until it ends or its reader has gone; the connection closes then."""
    assert reply.stream is not None  # who calls has looked
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.force_close()

    async def write(piece: bytes) -> None:
        transport = request.transport
        if not isinstance(transport, asyncio.WriteTransport) or transport.is_closing():
            raise ConnectionResetError("the reader has gone")
        if transport.get_write_buffer_size() > SLOW_BYTES:
            transport.abort()  # closing would wait for what nobody reads
            raise ConnectionResetError("the stream is not read")
        await response.write(piece)

    await response.prepare(request)
    with suppress(ConnectionError):  # nobody is there to be told
        await reply.stream(write)
    return response
