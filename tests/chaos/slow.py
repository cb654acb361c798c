"""Peers that hold a connection and give or take almost nothing: all a task of one timer each."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["silent", "slow head", "slow body", "slow reader"]
KINDS: tuple[Kind, ...] = ("silent", "slow head", "slow body", "slow reader")

HEAD = b"POST /register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


def request(path: str, words: object = None, more: str = "") -> bytes:
    """A whole request; with `words` a POST of them."""
    body = b"" if words is None else json.dumps(words).encode()
    method = "GET" if words is None else "POST"
    kind = "" if words is None else f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\n{kind}{more}\r\n".encode() + body


class Slow(asyncio.Protocol):
    """One such peer. A head or a body comes one byte a second; a reader asks for a large answer and takes none of it.
    One that was sent away comes back a second later, until it is told to go."""

    def __init__(self, kind: Kind, identifier: str, port: int) -> None:
        self.kind = kind
        self.identifier = identifier
        self.connections = 0
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._left = b""
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: self, "127.0.0.1", self._port)
        except OSError:
            self._again()

    def close(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.connections += 1
        if self._over:
            transport.abort()
        match self.kind:
            case "slow head":
                self._left = HEAD * 40
                self._drip()
            case "slow body":
                transport.write(HEAD + b"content-length: 1000\r\n\r\n")
                self._left = b'{"identifier":"' + b"x" * 1000
                self._drip()
            case "slow reader":
                words = {"identifier": self.identifier, "ip": "10.0.0.1"}
                transport.write(request("/register", words) + request("/node", words, "prefer: wait=20\r\n"))
            case _:
                pass

    def data_received(self, data: bytes) -> None:
        if self.kind == "slow reader" and self._transport is not None and b"200 OK" in data:
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._again()

    def _drip(self) -> None:
        if self._transport is not None and self._left:
            self._transport.write(self._left[:1])
            self._left = self._left[1:]
            self._loop.call_later(1.0, self._drip)

    def _again(self) -> None:
        if not self._over:
            self._loop.call_later(1.0, self._come_back)

    def _come_back(self) -> None:
        if not self._over:
            self._task = asyncio.ensure_future(self.connect())


async def gather_slow(port: int, many: int) -> list[Slow]:
    """So many of them, of every kind, connected."""
    kinds = [
        KINDS[3] if n % 20 == 0 else KINDS[n % 3] for n in range(many)
    ]  # each reader costs the kernel megabytes
    peers = [Slow(kind, f"slow-{n}", port) for n, kind in enumerate(kinds)]
    for start in range(0, many, 100):
        await asyncio.gather(*(peer.connect() for peer in peers[start : start + 100]))
    return peers


class Normal:
    """A well-behaved client that measures: seconds of each request, by what it asked and how it was connected."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.took: dict[str, list[float]] = {}
        self.reopened = 0
        self._kept: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, name: str, asked: bytes, kept: bool = False) -> int:
        """The status of one request, whose whole answer is read. A connection that is closed before it is used, as a
        flood does to idle ones, is replaced by another, as every HTTP client does; that time counts too."""
        began = time.monotonic()
        while True:
            reader, writer = (kept and self._kept) or await asyncio.open_connection(
                "127.0.0.1", self.port, limit=2**24
            )
            try:
                writer.write(asked)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
            except (ConnectionError, asyncio.IncompleteReadError):
                writer.close()
                if kept:
                    self._kept = None
                self.reopened += 1
                assert time.monotonic() - began < 10, "kept out"
                continue
            if kept:
                self._kept = reader, writer
            else:
                writer.close()
            self.took.setdefault(name, []).append(time.monotonic() - began)
            return int(head[9:12])

    def close(self) -> None:
        if self._kept is not None:
            self._kept[1].close()


def p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]
