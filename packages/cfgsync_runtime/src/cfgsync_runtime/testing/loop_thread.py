"""An event loop in a thread of its own: it works for tests that have a loop, that have none, and that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds that the loop may take to end; what runs in it ends in milliseconds."""


class LoopThread:
    """Runs coroutines for other threads while it is entered: `with LoopThread("name") as loop: loop.run(coroutine())`.

    Leaving cancels what still runs and joins the thread. Raises `RuntimeError` when it does not end within
    `patience` seconds (it is a daemon thread: the process can end nevertheless).
    """

    def __init__(self, name: str, *, patience: float = PATIENCE) -> None:
        self._name = name
        self._patience = patience
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def live() -> None:
            stop = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

        def work() -> None:
            try:
                asyncio.run(live())
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        self._thread = threading.Thread(target=work, name=self._name, daemon=True)
        self._thread.start()
        self._loop, self._stop = started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None or loop is None or stop is None:
            return
        self._thread = self._loop = self._stop = None
        loop.call_soon_threadsafe(stop.set)
        thread.join(self._patience)
        if thread.is_alive():
            raise RuntimeError(f"the thread {self._name} did not end within {self._patience:g} s")

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `coroutine` in the loop and return its future. Raises `RuntimeError` when the loop has ended."""
        if self._loop is None:
            coroutine.close()
            raise RuntimeError(f"{self._name} has been stopped")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` in the loop to its end; return its result. An interrupt cancels it."""
        future = self.start(coroutine)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError(f"{self._name} was stopped meanwhile") from None
        except BaseException:
            future.cancel()
            raise
