"""The standard library's blocking calls under an event loop: each has a daemon thread of its own, so that the process
hears signals and can end while a request is held or a disk is slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from cfgsync_core import ServerUrl
from cfgsync_core.node import ReceivedAnswer, Request

from .transport import HttpTransport

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """What `call()` returns or raises. When this is cancelled, the call goes on and its result is dropped."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_it: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is gone, and nobody waits
            loop.call_soon_threadsafe(lambda: None if future.done() else set_it())

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            failure = error
            settle(lambda: future.set_exception(failure))
        else:
            settle(lambda: future.set_result(result))

    threading.Thread(target=run, name="cfgsync", daemon=True).start()
    return await future


class ThreadedTransport:
    """A `HttpTransport` as a transport of asyncio: one request after the other. A cancelled one ends its connection."""

    def __init__(self, server: ServerUrl) -> None:
        self._server = server
        self._transport = HttpTransport(server)

    async def send(self, request: Request) -> ReceivedAnswer:
        """Raises `Lost`."""
        transport = self._transport
        try:
            return await in_thread(lambda: transport.send(request))
        except asyncio.CancelledError:
            transport.interrupt()
            self._transport = HttpTransport(self._server)
            raise

    def close(self) -> None:
        """End the connection."""
        self._transport.interrupt()
