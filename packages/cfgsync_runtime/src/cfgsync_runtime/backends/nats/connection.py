"""One connection to NATS that is made again for ever, in words of ours: what is lost is said once, and when it is back."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from cfgsync_core import StoreRefused
from cfgsync_core.log_events import event
from cfgsync_core.text import error_text, plain

CONNECT_SECONDS: Final = 2
AGAIN_SECONDS: Final = 1
ALIVE_SECONDS: Final = 5
"""A server that answers none of two pings, one each so many seconds, is lost."""
FAILURES: Final = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)
HEADER_BYTES: Final = 1024
"""At most, of a message of ours: NATS counts them, and ends the connection of a client that sends more than `max_payload`."""

log = logging.getLogger("cfgsync")


class TooLarge(nats.errors.MaxPayloadError):
    """NATS takes no message of this size."""

    def __init__(self, size: int, most: int) -> None:
        self._words = f"{size} bytes are too many for this NATS; raise its max_payload, which is {most}"

    def __str__(self) -> str:
        return self._words


def refuse_too_large(client: Client, data: bytes) -> None:
    """Raises `TooLarge`."""
    if len(data) + HEADER_BYTES > client.max_payload:
        raise TooLarge(len(data), client.max_payload)


class NatsConnection:
    """`url` is `nats://HOST:PORT`, or several with commas; `on_connected` is awaited after each connection."""

    def __init__(self, url: str, on_connected: Callable[[Client], Awaitable[None]]) -> None:
        self.shown = _without_password(url)
        self._servers = url.split(",")
        self._on_connected = on_connected
        self._client = Client()
        self._is_lost = False
        self._is_ending = False
        self._erred_last = ""

    @property
    def client(self) -> Client | None:
        """The client, None while it is not connected."""
        return self._client if self._client.is_connected else None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connect in the background while the context lasts: nothing waits for NATS."""
        connecting = asyncio.create_task(self._connect(), name="cfgsync-nats")
        try:
            yield
        finally:
            self._is_ending = True
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            with suppress(*FAILURES):
                await self._client.close()

    async def _connect(self) -> None:
        """The client connects again by itself, but after most errors that NATS sends, such as a refused password, it is closed
        for good; then there is a new one."""
        while True:
            closed = asyncio.Event()
            try:
                await self._connect_once(closed)
                await closed.wait()
            except Exception as error:  # also an unforeseen one: only the end of the context ends this task
                await self._failed(error)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _connect_once(self, closed: asyncio.Event) -> None:
        async def on_closed() -> None:
            closed.set()

        self._client = Client()
        await self._client.connect(
            self._servers,
            error_cb=self._erred,
            disconnected_cb=self._lost,
            reconnected_cb=self._back,
            closed_cb=on_closed,
            connect_timeout=CONNECT_SECONDS,
            reconnect_time_wait=AGAIN_SECONDS,
            max_reconnect_attempts=-1,
            ping_interval=ALIVE_SECONDS,
            max_outstanding_pings=2,
        )
        await self._back()

    async def _back(self) -> None:
        if self._is_lost:
            log.info("NATS at %s answers again", self.shown, extra=event("nats_back"))
        self._is_lost = False
        try:
            await self._on_connected(self._client)
        except FAILURES as error:
            await self._failed(error)
        except Exception:
            log.exception("NATS at %s: an unforeseen error after the connection", self.shown)

    async def _erred(self, error: Exception) -> None:
        if not self._client.is_connected:
            await self._failed(error)
        elif self._erred_last != (words := error_text(error)):  # such as a permission that is missing
            self._erred_last = words
            log.warning("NATS at %s: %s", self.shown, plain(words), extra=event("nats_error"))

    async def _lost(self) -> None:
        await self._failed(self._client.last_error or ConnectionError("the connection was lost"))

    async def _failed(self, error: Exception) -> None:
        if self._is_lost or self._is_ending:
            return
        self._is_lost = True
        log.warning(
            "NATS at %s does not serve this server (%s): no hints and events for now; everything is read by interval",
            self.shown,
            plain(error_text(error)),
            extra=event("nats_lost"),
        )


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@,]*@", "//", url)


def refuse_unusable(url: str) -> None:
    """Raises `StoreRefused` for a URL that cannot be one of NATS."""
    for one in url.split(","):
        try:
            parts = urlsplit(one)
            is_one = parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_one = False
        if not is_one:
            raise StoreRefused(
                f"{_without_password(one)!r} is not the URL of a NATS server",
                "give nats://HOST:4222, or tls://HOST:4222; several with commas",
            )
