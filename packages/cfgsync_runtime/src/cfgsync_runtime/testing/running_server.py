"""A server in a thread of its own, from `with` to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Self

from cfgsync_core import HttpServer

from .loop_thread import LoopThread


class RunningServer:
    """A server that runs while it is entered; leaving, or `stop()`, ends it."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[HttpServer]]) -> None:
        self._opened = opened
        self._running = ExitStack()
        self.url = ""
        self.loop: LoopThread
        """The loop that the server runs in."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.loop = stack.enter_context(LoopThread("cfgsync-server"))
            up: Future[tuple[HttpServer, asyncio.Event]] = Future()
            living = self.loop.start(self._live(up))
            try:
                server, stop = up.result()
            except BaseException:
                living.cancel()
                raise
            self.url = server.url
            stack.callback(self.loop.run, _ended(living, stop))
            self._begin()
            self._running = stack.pop_all()
        return self

    def _begin(self) -> None:
        """What follows the start. When it raises, the server is ended."""

    async def _live(self, up: Future[tuple[HttpServer, asyncio.Event]]) -> None:
        stop = asyncio.Event()
        try:
            async with self._opened() as server:
                up.set_result((server, stop))
                await stop.wait()
        except BaseException as error:
            if up.done():
                raise
            up.set_exception(error)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it now; a store in memory is lost. A second call does nothing."""
        self._running.pop_all().close()

    @property
    def port(self) -> int:
        """The port at 127.0.0.1."""
        return int(self.url.rpartition(":")[2])


async def _ended(living: Future[None], stop: asyncio.Event) -> None:
    stop.set()
    await asyncio.wrap_future(living)
