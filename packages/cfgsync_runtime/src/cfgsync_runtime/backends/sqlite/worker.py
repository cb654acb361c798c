"""One thread, one connection: calls run in order, and each result comes back on the event loop.

`queue.SimpleQueue` instead of an executor, because every commit passes through here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Done: TypeAlias = Callable[[Any, BaseException | None], None]


class Worker:
    """A thread from `start` until `stop`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[asyncio.AbstractEventLoop, Callable[[], Any], Done] | None] = (
            SimpleQueue()
        )
        self._thread: Thread | None = None

    def start(self) -> None:
        # a daemon: a process that ends without closing its store must not hang; acknowledged commits are durable
        self._thread = Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after the calls before this one, and wait for it."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()
            self._thread = None

    def post(self, loop: asyncio.AbstractEventLoop, call: Callable[[], Any], done: Done) -> None:
        """Run `call` in the thread, then `done(result, error)` on the loop."""
        self._calls.put((loop, call, done))

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises in the thread. A cancelled call still runs."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def done(result: T, error: BaseException | None) -> None:
            if answer.cancelled():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

        self.post(loop, call, done)
        return await answer

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            loop, call, done = item
            result, failure = None, None
            try:
                result = call()
            except BaseException as error:  # raised by the caller
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: the result has no reader
                loop.call_soon_threadsafe(done, result, failure)
            del item, loop, call, done, result, failure  # keep no object alive while idle
