"""Where the materializer runs: in a worker thread, an `async def` on the event loop.

To run it in another place, such as a child process, give another `Decider`: `RegistrationConfigSource(decider=…)`.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from cfgsync_core import DocumentsSnapshot, NotReady

from ..application.failure import failed
from ..application.materializer import MaterializationResult, SnapshotMaterializer, called
from ..application.snapshot import RegistrationSnapshot
from ..generations.generation import Prepared, checked

T = TypeVar("T")


class Decision(msgspec.Struct, frozen=True):
    """The result of one call, its artifacts already encoded, and the processor seconds that it took."""

    answer: NotReady | Prepared
    processor_seconds: float


class Decider(Protocol):
    """Calls the materializer, for example in a thread or a child process."""

    @property
    def busy(self) -> bool:
        """True while a call of the materializer has not returned, also after the deadline of its run."""

    async def ready(self) -> None:
        """Return when the materializer can be called, for example after a reload. No run's deadline applies."""

    async def decide(
        self, snapshot: RegistrationSnapshot, documents: DocumentsSnapshot | None = None
    ) -> Decision:
        """Call the materializer once, with `documents` if it reads some. Raises what it raises. Is cancelled at the deadline; it
        may then raise its `CancelledError` from a `MaterializationFailed` that says where the call was."""


class ThreadDecider:
    """Calls the materializer in a new thread for each run. `on_idle` is called when a run returns after its deadline. The
    thread is a daemon: one that never ends prevents the next run, but not the end of the process."""

    def __init__(self, materializer: SnapshotMaterializer) -> None:
        self._materializer = materializer
        self._busy = False
        self.on_idle: Callable[[], object] = lambda: None

    @property
    def busy(self) -> bool:
        return self._busy

    async def ready(self) -> None:
        """See `Decider`."""

    async def decide(
        self, snapshot: RegistrationSnapshot, documents: DocumentsSnapshot | None = None
    ) -> Decision:
        """See `Decider`."""

        def work() -> Awaitable[MaterializationResult] | NotReady | Prepared:
            result = called(self._materializer, snapshot, documents)
            return result if inspect.isawaitable(result) else checked(result)

        first, spent = await self._in_thread(work)
        if isinstance(first, NotReady | Prepared):
            return Decision(first, spent)
        metered = _Metered(first)
        task = asyncio.current_task()
        cancelled = 0 if task is None else task.cancelling()
        try:
            answer = await metered
        except (SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:
            ours = (
                isinstance(error, asyncio.CancelledError)
                and task is not None
                and task.cancelling() > cancelled
            )
            pressed = (
                isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()
            )
            if ours or pressed:
                raise
            raise failed(error) from error  # as in a thread: a failed run, and not the end of the server
        last, more = await self._in_thread(lambda: checked(answer))
        return Decision(last, spent + more + metered.seconds)

    async def _in_thread(self, work: Callable[[], T]) -> tuple[T, float]:
        """The result of `work` in a thread, and its processor seconds."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[T, float]] = loop.create_future()

        def finish(settle: Callable[[], None]) -> None:
            self._busy = False
            if done.done():
                self.on_idle()
            else:
                settle()

        def run() -> None:
            began = time.thread_time()
            try:
                settle = partial(done.set_result, (work(), time.thread_time() - began))
            except Exception as error:
                settle = partial(done.set_exception, error)
            except BaseException as error:
                # SystemExit in a materializer is a failed run, not the end of a server
                settle = partial(done.set_exception, failed(error))
            with suppress(RuntimeError):  # the loop has closed, and nothing waits for the result
                loop.call_soon_threadsafe(finish, settle)

        self._busy = True
        threading.Thread(target=run, name="cfgsync-materializer", daemon=True).start()
        return await done


class _Metered:
    """Awaits a coroutine and counts the processor seconds of its own steps, without the event loop's other work."""

    def __init__(self, inner: Awaitable[MaterializationResult]) -> None:
        self._inner = inner
        self.seconds = 0.0

    def __await__(self) -> Generator[Any, Any, MaterializationResult]:
        steps: Any = self._inner.__await__()
        value: object = None
        thrown: BaseException | None = None
        while True:
            began = time.thread_time()
            try:
                waiting_for = steps.send(value) if thrown is None else steps.throw(thrown)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                self.seconds += time.thread_time() - began
            value = thrown = None
            try:
                value = yield waiting_for
            except BaseException as error:
                thrown = error
