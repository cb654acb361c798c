"""A transport for thousands of watchers in one process: a bare connection each, next to nothing on top.

wires = Wires(port)
watch = NodeWatch(registration, wires.wire().send, apply)
"""

from __future__ import annotations

import asyncio

from cfgsync_core.node.received_answer import ReceivedAnswer
from cfgsync_core.node.requests import Lost, Request


class Wires:
    """Connections to `port` of this machine; at most `at_once` of them are being made at a time."""

    def __init__(self, port: int, at_once: int = 100) -> None:
        self.port = port
        self.connecting = asyncio.Semaphore(at_once)

    def wire(self) -> Wire:
        """One more."""
        return Wire(self)


class Wire(asyncio.Protocol):
    """One connection, made when it is needed and kept: one request at a time. Answers must have a Content-Length."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[ReceivedAnswer] | None = None
        self._buffer = bytearray()

    async def send(self, request: Request) -> ReceivedAnswer:
        """Raises `Lost`. Cancelled, the connection is gone."""
        loop = asyncio.get_running_loop()
        if self._transport is None:
            await self._connect()
        assert self._transport is not None
        self._answer = loop.create_future()
        head = [f"POST {request.path} HTTP/1.1", "Host: x", f"Content-Length: {len(request.body)}"]
        head += [f"{name}: {value}" for name, value in request.headers.items()]
        self._transport.write("\r\n".join([*head, "", ""]).encode() + request.body)
        late = loop.call_later(request.end_within, self._lost, "no answer in time")
        try:
            return await self._answer
        except BaseException:
            self.close()
            raise
        finally:
            late.cancel()
            self._answer = None

    def close(self) -> None:
        """Go away without a word."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._buffer.clear()
        async with self._wires.connecting:
            try:
                self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self._wires.port)
            except OSError as error:
                raise Lost(str(error)) from error

    def _lost(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Lost(why))

    # ── asyncio.Protocol ─────────────────────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = bytes(self._buffer).partition(b"\r\n\r\n")
        if not end:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(body) < int(headers.get("content-length", 0)):
            return
        self._buffer.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(ReceivedAnswer(int(first.split()[1]), headers, body))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._lost(str(error or "the connection was closed without an answer"))
