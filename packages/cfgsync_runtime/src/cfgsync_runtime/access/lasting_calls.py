"""A call that lasts is permitted only while its caller is: the right is checked again before each thing that is sent, and at
least every 15 seconds, so that a revoked or expired token reads no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from cfgsync_core.server import Reply, RightEnded, WebSocket, Write

CHECK_SECONDS: Final = 15.0

Refused = Callable[[], Reply | None]
"""The refusal of the call as it would be now, None while it is permitted."""


def judged_again(reply: Reply, refused: Refused) -> Reply:
    """The refusal in place of a reply that came too late; else the reply, whose stream or WebSocket ends with the right."""
    if (refusal := refused()) is not None:
        return refusal
    if (stream := reply.stream) is not None:

        async def streaming(write: Write) -> None:
            async def checked(piece: bytes) -> None:
                _check(refused)
                await write(piece)

            await stream(checked)

        return msgspec.structs.replace(reply, stream=streaming)
    if (talk := reply.converse) is not None:

        async def conversing(socket: WebSocket) -> None:
            await _while_permitted(talk(_CheckedSocket(socket, refused)), refused)

        return msgspec.structs.replace(reply, converse=conversing)
    return reply


class _CheckedSocket(WebSocket):
    def __init__(self, socket: WebSocket, refused: Refused) -> None:
        self._socket = socket
        self._refused = refused

    async def send(self, message: str | bytes) -> None:
        _check(self._refused)
        await self._socket.send(message)

    async def receive(self) -> str | bytes | None:
        return await self._socket.receive()


async def _while_permitted(talking: Awaitable[None], refused: Refused) -> None:
    task = asyncio.ensure_future(talking)
    try:
        while not (await asyncio.wait([task], timeout=CHECK_SECONDS))[0]:
            _check(refused)
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _check(refused: Refused) -> None:
    """Raises `RightEnded`."""
    if refused() is not None:
        raise RightEnded("the token or session has ended")
