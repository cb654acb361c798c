"""The event loop's way to the blocking transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec.structs import replace

from cfgsync_core import ServerUrl
from cfgsync_core.node import Lost, ReceivedAnswer, Request

from ...process.threads import in_thread
from .addresses import Addresses
from .transport import HttpTransport

LOOKED_EVERY: Final = 10.0


class ThreadedTransport:
    """A `HttpTransport` for asyncio: one request after the other. A cancelled request closes its connection.

    `moved()` is awaited every `LOOKED_EVERY` seconds of a request; a sentence from it, as for a changed address of this
    machine, ends the request. `secret()` is the node's secret at this moment, which each request that has one is sent with.
    """

    def __init__(
        self,
        server: ServerUrl,
        moved: Callable[[], Awaitable[str]] | None = None,
        secret: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._server = server
        self._moved = moved
        self._secret = secret
        self._addresses = Addresses(server)
        self._transport = HttpTransport(server, self._addresses)

    async def send(self, request: Request) -> ReceivedAnswer:
        """Raises `Lost`."""
        transport = self._transport
        sending = asyncio.ensure_future(in_thread(lambda: transport.send(self._current(request))))
        try:
            while not (await asyncio.wait((sending,), timeout=LOOKED_EVERY))[0]:
                if self._moved is not None and (why := await self._moved()):
                    raise Lost(why)
            return sending.result()
        finally:
            if not sending.done():
                sending.cancel()
                transport.interrupt()
                self._transport = HttpTransport(self._server, self._addresses)

    def _current(self, request: Request) -> Request:
        if "Authorization" not in request.headers or (secret := self._secret()) is None:
            return request
        return replace(request, headers={**request.headers, "Authorization": f"Bearer {secret}"})

    def close(self) -> None:
        """Close the connection."""
        self._transport.interrupt()
