"""One connection to NATS that is made again for ever, in words of ours: what is lost is said once, and when it is back."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from cfgsync_core import StoreRefused
from cfgsync_core.log_events import event
from cfgsync_core.text import error_text

CONNECT_SECONDS: Final = 2
AGAIN_SECONDS: Final = 1
ALIVE_SECONDS: Final = 5
"""A server that answers none of two pings, one each so many seconds, is lost."""
FAILURES: Final = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)

log = logging.getLogger("cfgsync")


class NatsConnection:
    """`url` is `nats://HOST:PORT`, or several with commas; `on_connected` is awaited after each connection."""

    def __init__(self, url: str, on_connected: Callable[[Client], Awaitable[None]]) -> None:
        self.shown = _without_password(url)
        self._servers = url.split(",")
        self._on_connected = on_connected
        self._client = Client()
        self._is_lost = False

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
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            with suppress(*FAILURES):
                await self._client.close()

    async def _connect(self) -> None:
        await self._client.connect(
            self._servers,
            error_cb=self._failed,
            disconnected_cb=self._lost,
            reconnected_cb=self._back,
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

    async def _lost(self) -> None:
        await self._failed(ConnectionError("the connection was lost"))

    async def _failed(self, error: Exception) -> None:
        if self._is_lost or self._client.is_closed:
            return
        self._is_lost = True
        log.warning(
            "NATS at %s does not answer (%s): no hints and events for now; everything is read by interval",
            self.shown,
            error_text(error) or type(error).__name__,
            extra=event("nats_lost"),
        )


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@,]*@", "//", url)


def refuse_unusable(url: str) -> None:
    """Raises `StoreRefused` for a URL that cannot be one of NATS."""
    for one in url.split(","):
        scheme, found, rest = one.partition("://")
        if scheme not in ("nats", "tls") or not found or not rest:
            raise StoreRefused(
                f"{_without_password(one)!r} is not the URL of a NATS server",
                "give nats://HOST:4222, or tls://HOST:4222; several with commas",
            )
