"""`GET /watch`: server-sent events for pages and programs. A hint carries no data; it means "read /status again".

Nodes use the held `/node` instead. Without an open stream nothing is subscribed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from .route import Call, Operation, Reply, Response, Route, Write, unavailable

LEAD_SECONDS: Final = 0.05
"""From a change to its hint, which also covers later changes within that time."""
SPACING_SECONDS: Final = 0.1
"""The least time between two hints."""
PING_SECONDS: Final = 15.0
MAX_PAGES: Final = 1_000
RETRY_MS: Final = 2_000
"""After this a page whose stream has ended connects again."""

HINT: Final = b"event: hint\ndata: {}\n\n"
PING: Final = b": still here\n\n"
HELLO: Final = b"retry: %d\n\n" % RETRY_MS + HINT
"""A page that connects must read once."""
SSE_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep a hint until it has a bufferful
}


class ChangingSource(Protocol):
    """A source that reports its changes."""

    def subscribe(self, heard: Callable[[], None]) -> Callable[[], None]:
        """Call `heard` on the event loop after each change of the fleet in `/status`; it returns at once and raises
        nothing. The result ends the subscription; call it once."""


class WatchStreams:
    """The open streams of `source`: `routes()` has `GET /watch`, `close()` ends every stream."""

    def __init__(
        self,
        source: ChangingSource,
        *,
        at_most: int = MAX_PAGES,
        lead: float = LEAD_SECONDS,
        spacing: float = SPACING_SECONDS,
        ping: float = PING_SECONDS,
    ) -> None:
        self._source = source
        self._at_most = at_most
        self._lead = lead
        self._spacing = spacing
        self._ping = ping
        self._pages: set[asyncio.Event] = set()
        self._unsubscribe: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._hinted_at = float("-inf")
        self._closed = False

    def __len__(self) -> int:
        return len(self._pages)

    def routes(self) -> list[Route]:
        """`GET /watch`."""
        operation = Operation(
            "Server-sent events without data: /status has changed",
            {"200": Response(media={"text/event-stream": {"type": "string"}})},
        )
        return [Route("GET", "/watch", self.watch, "watch", operation=operation, endless=True)]

    async def watch(self, call: Call) -> Reply:
        """The handler of `GET /watch`; 503 for one stream too many, and after `close`."""
        if self._closed or len(self._pages) >= self._at_most:
            what = "this server is stopping" if self._closed else f"{self._at_most} pages watch already"
            return unavailable(what)
        return Reply(200, (), SSE_HEADERS, self._stream)

    def close(self) -> None:
        """End every stream now."""
        self._closed = True
        for page in self._pages:
            page.set()

    async def _stream(self, write: Write) -> None:
        """One stream, until its reader or the server ends it; hints that come during a write become one."""
        hinted = asyncio.Event()
        self._pages.add(hinted)
        if self._unsubscribe is None:
            self._unsubscribe = self._source.subscribe(self._heard)
        piece = HELLO
        try:
            while not self._closed:
                await write(piece)
                try:
                    async with asyncio.timeout(self._ping):
                        await hinted.wait()
                    hinted.clear()
                    piece = HINT
                except TimeoutError:
                    piece = PING
        finally:
            self._pages.discard(hinted)
            if not self._pages:
                self._stop()

    def _heard(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            at = max(loop.time() + self._lead, self._hinted_at + self._spacing)
            self._timer = loop.call_at(at, self._send_hint)

    def _send_hint(self) -> None:
        self._timer = None
        self._hinted_at = asyncio.get_running_loop().time()
        for page in self._pages:
            page.set()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
