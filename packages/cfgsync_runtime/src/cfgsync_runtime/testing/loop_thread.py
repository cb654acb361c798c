"""An event loop in a thread of its own, for tests with a loop, without one, and for tests that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds that the loop may take to end."""


class LoopThread:
    """Runs coroutines for other threads while it is entered: `with LoopThread("name") as loop: loop.run(coroutine())`.

    Leaving cancels its tasks and joins the thread. Raises `RuntimeError` when that takes more than `patience` seconds; it is
    a daemon thread, so that the process can end nevertheless.
    """

    def __init__(self, name: str, *, patience: float = PATIENCE) -> None:
        self._name = name
        self._patience = patience
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        self._loop = loop = asyncio.new_event_loop()

        def work() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.get_loop().run_forever()

        self._thread = threading.Thread(target=work, name=self._name, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is None:
            return
        loop, self._loop = self._loop, None
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(self._patience)
        if self._thread.is_alive():
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
            raise RuntimeError(f"{self._name} was stopped before the end") from None
        except BaseException:
            future.cancel()
            raise
