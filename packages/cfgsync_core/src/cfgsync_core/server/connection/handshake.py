"""A TLS connection until it is one: a silent peer costs no TLS state, and a plain HTTP request is answered, not hung up on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

from ...wire.protocol import encode_error

HANDSHAKE_SECONDS: Final = 10.0
SHUTDOWN_SECONDS: Final = 5.0
"""How long a closed connection waits for the peer's last TLS message (the library's default is 30 s)."""

_HANDSHAKE: Final = b"\x16"  # the first byte of every TLS connection
_PLAIN: Final = encode_error("invalid_request", "this port speaks TLS: use https://")
_ANSWER: Final = (
    b"HTTP/1.1 426 Upgrade Required\r\nContent-Type: application/json\r\nUpgrade: TLS/1.2\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(_PLAIN) + _PLAIN
)


async def shake_hands(
    peer: socket.socket, protocol: Callable[[], asyncio.BaseProtocol], context: Callable[[], ssl.SSLContext]
) -> None:
    """Make `peer` a TLS connection of `protocol`, with the certificate that `context` has when the peer begins. Raises
    `OSError`."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(HANDSHAKE_SECONDS):
        await _readable(loop, peer)
    if peer.recv(1, socket.MSG_PEEK) != _HANDSHAKE:
        peer.recv(65_536)  # an unread request would reset the connection, and the answer with it
        peer.send(_ANSWER)
        raise ConnectionAbortedError("the peer does not begin with TLS")
    await loop.connect_accepted_socket(
        protocol,
        peer,
        ssl=context(),
        ssl_handshake_timeout=HANDSHAKE_SECONDS,
        ssl_shutdown_timeout=SHUTDOWN_SECONDS,
    )


async def _readable(loop: asyncio.AbstractEventLoop, peer: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_reader(peer, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(peer)
