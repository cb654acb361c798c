"""A crowd of raw connections, one a node: cheap enough for ten thousand of them in one process."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Member(asyncio.Protocol):
    """Registers over its own connection, then asks `/node` and is held; held to the end, it asks again. `registered` and
    `answered` are futures: the status and the head of the last answer, or 0 when the connection ended without one."""

    def __init__(self, identifier: str, prefer: int = 30) -> None:
        loop = asyncio.get_running_loop()
        self.identifier = identifier
        self.registered: asyncio.Future[int] = loop.create_future()
        self.answered: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self._prefer = prefer
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send(b"/register")

    def _send(self, path: bytes, more: bytes = b"") -> None:
        body = b'{"identifier":"%s","ip":"10.0.0.1"}' % self.identifier.encode()
        assert self._transport is not None
        self._transport.write(
            b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n%s"
            % (path, more, len(body), body)
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        status = int(head[9:12])
        if not self.registered.done():
            self._buffer = b""
            self.registered.set_result(status)
            self._send(b"/node", b"prefer: wait=%d\r\n" % self._prefer)
        elif status == 425:
            if len(rest) >= int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
                self._buffer = b""
                self._send(b"/node", b"prefer: wait=%d\r\n" % self._prefer)
        elif not self.answered.done():
            self.answered.set_result((status, head))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.registered.done():
            self.registered.set_result(0)
        if not self.answered.done():
            self.answered.set_result((0, b""))

    def close(self) -> None:
        """Go away."""
        if self._transport is not None:
            self._transport.abort()


async def gather(port: int, names: list[str], at_once: int = 200) -> list[Member]:
    """So many members, all registered, all asking."""
    loop = asyncio.get_running_loop()
    members: list[Member] = []
    for start in range(0, len(names), at_once):
        new = [Member(name) for name in names[start : start + at_once]]
        await asyncio.gather(*(loop.create_connection(_giving(member), "127.0.0.1", port) for member in new))
        await asyncio.gather(*(member.registered for member in new))
        members += new
    return members


def _giving(member: Member) -> Callable[[], Member]:
    return lambda: member
