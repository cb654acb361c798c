"""Each blocking call of the event loop gets a daemon thread, so that the process hears signals and can end while a
request is held or a disk is slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

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
