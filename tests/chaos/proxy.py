"""A network that misbehaves, in user space: each connection draws a fault, and what really happened is counted."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from types import TracebackType
from typing import Literal, Self, TypeAlias

import msgspec

Kind: TypeAlias = Literal["none", "refuse", "delay", "throttle", "cut", "reset", "stall"]
KINDS: tuple[Kind, ...] = ("refuse", "delay", "throttle", "cut", "reset", "stall")


class Fault(msgspec.Struct, frozen=True):
    """What becomes of one connection. `answers` says which way it strikes; `after` so many bytes that way; `seconds`
    is how long each piece is delayed, or how long a stall lasts before the connection ends; a throttled way carries
    `rate` bytes a second."""

    kind: Kind
    answers: bool = True
    after: int = 0
    seconds: float = 0.0
    rate: int = 0


def drawn(chance: random.Random, share: float, longest_stall: float) -> Fault:
    """A fault for one connection; with `1 - share`, none."""
    if chance.random() >= share:
        return Fault("none")
    kind, answers = chance.choice(KINDS), chance.random() < 0.7
    after = chance.choice([0, chance.randrange(400), chance.randrange(20_000)]) if answers else 0
    if not answers:
        after = chance.randrange(600)
    seconds = chance.uniform(0.01, 0.2) if kind == "delay" else chance.uniform(0.5, longest_stall)
    return Fault(kind, answers, after, seconds, chance.choice([4_000, 16_000]))


class Proxy:
    """Carries connections to `port`; `share` of them with a fault. `fired` counts by kind those that struck."""

    def __init__(self, port: int, chance: random.Random, share: float, longest_stall: float = 2.0) -> None:
        self.fired: Counter[str] = Counter()
        self.connections = 0
        self.share = share
        self._to = port
        self._chance = chance
        self._longest_stall = longest_stall
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        fault = drawn(self._chance, self.share, self._longest_stall)
        back: asyncio.StreamWriter | None = None
        try:
            if fault.kind == "refuse":
                self.fired["refuse"] += 1
                return
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
            ways = [
                asyncio.ensure_future(self._carry(reader, back, None if fault.answers else fault)),
                asyncio.ensure_future(self._carry(there, writer, fault if fault.answers else None)),
            ]
            try:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                if any(way.result() == "reset" for way in done):
                    _abort(writer)
                    _abort(back)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, back):
                if end is not None:
                    end.close()

    async def _carry(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, fault: Fault | None
    ) -> str:
        """Carry one way until it ends; how it ended."""
        carried, told = 0, False
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                if fault is None or fault.kind == "none" or carried + len(data) <= fault.after:
                    carried += len(data)
                    to.write(data)
                    await to.drain()
                    continue
                if not told:
                    self.fired[fault.kind] += 1
                    told = True
                match fault.kind:
                    case "delay":
                        await asyncio.sleep(fault.seconds)
                        to.write(data)
                    case "throttle":
                        for start in range(0, len(data), fault.rate // 10):
                            to.write(data[start : start + fault.rate // 10])
                            await asyncio.sleep(0.1)
                    case _:
                        to.write(data[: fault.after - carried])
                        await to.drain()
                        if fault.kind == "stall":
                            await asyncio.sleep(fault.seconds)
                        return fault.kind
                carried += len(data)
                await to.drain()
        return "ended"


def _abort(writer: asyncio.StreamWriter) -> None:
    """End it with a reset instead of a goodbye."""
    peer: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
