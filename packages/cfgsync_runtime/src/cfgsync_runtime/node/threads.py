"""Each blocking call of the event loop gets a daemon thread, so that the process hears signals and can end while a
request is held or a disk is slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from cfgsync_core import ServerUrl
from cfgsync_core.node import Lost, ReceivedAnswer, Request

from .transport import HttpTransport

LOOKED_EVERY: Final = 10.0

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Return or raise what `call()` does. After a cancellation the call continues and its result is dropped."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # a cancellation of the waiting side does not reach it

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="cfgsync", daemon=True).start()
    return await asyncio.wrap_future(future)


class ThreadedTransport:
    """A `HttpTransport` for asyncio: one request after the other. A cancelled request closes its connection.

    `moved()` is awaited every `LOOKED_EVERY` seconds of a request; a sentence from it, as for a changed address of this
    machine, ends the request."""

    def __init__(self, server: ServerUrl, moved: Callable[[], Awaitable[str]] | None = None) -> None:
        self._server = server
        self._moved = moved
        self._transport = HttpTransport(server)

    async def send(self, request: Request) -> ReceivedAnswer:
        """Raises `Lost`."""
        transport = self._transport
        sending = asyncio.ensure_future(in_thread(lambda: transport.send(request)))
        try:
            while not (await asyncio.wait((sending,), timeout=LOOKED_EVERY))[0]:
                if self._moved is not None and (why := await self._moved()):
                    raise Lost(why)
            return sending.result()
        finally:
            if not sending.done():
                sending.cancel()
                transport.interrupt()
                self._transport = HttpTransport(self._server)

    def close(self) -> None:
        """Close the connection."""
        self._transport.interrupt()
