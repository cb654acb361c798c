"""Nodes by the thousand in one process: the real `Exchange` decides what to send, a bare protocol carries it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from cfgsync_core import Fetched, NodeRegistration, Outcome, Version
from cfgsync_core.node.exchange import Done, Exchange, Pause, Send
from cfgsync_core.node.received_answer import ReceivedAnswer
from cfgsync_core.node.requests import Request


class Crowd:
    """Where the nodes ask, and what is going on between them and the server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.in_flight: Counter[str] = Counter()
        """Path → requests that are neither answered nor lost."""
        self.lost: Counter[str] = Counter()
        """Path → requests that were sent and never answered."""
        self.answers: Counter[tuple[str, int]] = Counter()
        self.refused = 0
        """Connections that were not had."""
        self.answered: Callable[[str, int], None] = lambda path, status: None
        self._connecting = asyncio.Semaphore(500)

    async def connect(self, node: Node) -> None:
        async with self._connecting:
            try:
                await asyncio.get_running_loop().create_connection(lambda: node, "127.0.0.1", self.port)
            except OSError as error:
                self.refused += 1
                node.lost(str(error))


class Node(asyncio.Protocol):
    """One node: what it registers, what it was told, and its connection while it has one."""

    def __init__(self, crowd: Crowd, identifier: str) -> None:
        self.identifier = identifier
        self.boots = 0
        self.registration = NodeRegistration(identifier, "127.0.0.1").with_metadata({"boots": 0})
        self.acknowledged: list[tuple[Version, NodeRegistration]] = []
        self.fetched: list[Fetched] = []
        self.ended: asyncio.Future[Outcome] | None = None
        self._crowd = crowd
        self._loop = asyncio.get_running_loop()
        self._exchange: Exchange | None = None
        self._request: Request | None = None
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._buffer = bytearray()

    @property
    def is_up(self) -> bool:
        """It has asked, and has its answer."""
        return self.ended is not None and self.ended.done()

    def boot(self) -> None:
        """Register with other words than before, and ask for files."""
        self.boots += 1
        self.registration = NodeRegistration(self.identifier, "127.0.0.1").with_metadata(
            {"boots": self.boots}
        )
        self.ask()

    def ask(self, wait: float = 600.0) -> None:
        """Ask for files as it is; `ended` is then the outcome. An older answer than any before would be refused."""
        seen = Version.parse(self.fetched[-1].generation or "") if self.fetched else None
        self._exchange = Exchange(
            self.registration,
            now=self._loop.time(),
            wait=wait,
            secret=f"secret-of-{self.identifier}",
            seen=seen,
        )
        self.ended = self._loop.create_future()
        self._step()

    def lost(self, why: str) -> None:
        assert self._exchange is not None
        self._request = None
        self._exchange.lost(self._loop.time(), why)
        self._step()

    def close(self) -> None:
        """Go away without a word."""
        if self._transport is not None:
            self._transport.abort()

    def _step(self) -> None:
        assert self._exchange is not None
        assert self.ended is not None
        match self._exchange.next(self._loop.time()):
            case Pause(seconds):
                self._loop.call_later(seconds, self._step)
            case Send(request):
                self._request = request
                if self._transport is not None:
                    self._send(request)
                else:
                    self._connecting = asyncio.ensure_future(self._crowd.connect(self))
            case Done(outcome):
                if isinstance(outcome, Fetched):
                    self.fetched.append(outcome)
                self.ended.set_result(outcome)

    def _send(self, request: Request) -> None:
        assert self._transport is not None
        head = [f"POST {request.path} HTTP/1.1", "Host: x", f"Content-Length: {len(request.body)}"]
        head += [f"{name}: {value}" for name, value in request.headers.items()]
        self._transport.write("\r\n".join([*head, "", ""]).encode() + request.body)
        self._crowd.in_flight[request.path] += 1

    # ── asyncio.Protocol ─────────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer.clear()
        if self._request is not None:
            self._send(self._request)

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
        request, self._request = self._request, None
        assert request is not None, "an answer that nobody asked for"
        assert self._exchange is not None
        answer = ReceivedAnswer(int(first.split()[1]), headers, body)
        self._crowd.in_flight[request.path] -= 1
        self._crowd.answers[request.path, answer.status] += 1
        if request.path == "/register" and answer.status == 202:
            self.acknowledged.append((Version.parse(headers["cfgsync-version"]), self.registration))
        self._exchange.answered(self._loop.time(), answer)
        self._crowd.answered(request.path, answer.status)
        self._step()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        request = self._request
        if request is not None:
            self._crowd.in_flight[request.path] -= 1
            self._crowd.lost[request.path] += 1
            self.lost(str(error) or "closed")
