"""Where the materializer runs: in a worker thread of its own, so that the event loop goes on; an `async def` on the loop.

Another place, such as a child process, is another `Decider`: `RegistrationConfigSource(decider=…)`.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import msgspec

from cfgsync_core import MaterializationFailed, NotReady
from cfgsync_core.text import error_text

from ..application.materializer import MaterializationResult, RegistrationSnapshotMaterializer
from ..application.snapshot import RegistrationSnapshot
from ..generations.deliverable import cut
from ..generations.generation import Prepared, checked

T = TypeVar("T")


class Decision(msgspec.Struct, frozen=True):
    """The result of one call, artifacts already encoded, and the processor seconds that it took."""

    answer: NotReady | Prepared
    processor_seconds: float


class Decider(Protocol):
    """Calls the materializer, in a place of its own."""

    @property
    def busy(self) -> bool:
        """True while a call of the materializer has not returned, also after the run was given up."""

    async def ready(self) -> None:
        """Return when the materializer can be called, for example when it is loaded again. No deadline of a run counts."""

    async def decide(self, snapshot: RegistrationSnapshot) -> Decision:
        """Call it once. Raises what the materializer raises. Cancelled at the deadline."""


class ThreadDecider:
    """The materializer in a thread for each run. `on_idle` is called when a run that was given up has returned at last:
    the thread is a daemon, so that one that never ends keeps the next run from starting, not the process from ending."""

    def __init__(self, materializer: RegistrationSnapshotMaterializer) -> None:
        self._materializer = materializer
        self._busy = False
        self.on_idle: Callable[[], object] = lambda: None

    @property
    def busy(self) -> bool:
        return self._busy

    async def ready(self) -> None:
        """See `Decider`."""

    async def decide(self, snapshot: RegistrationSnapshot) -> Decision:
        """See `Decider`."""

        def work() -> Awaitable[MaterializationResult] | NotReady | Prepared:
            result = self._materializer.materialize_snapshot(snapshot)
            return result if inspect.isawaitable(result) else checked(result)

        first, spent = await self._in_thread(work)
        if isinstance(first, NotReady | Prepared):
            return Decision(first, spent)
        metered = _Metered(first)
        answer = await metered
        last, more = await self._in_thread(lambda: checked(answer))
        return Decision(last, spent + more + metered.seconds)

    async def _in_thread(self, work: Callable[[], T]) -> tuple[T, float]:
        """Run `work` in a thread; what it returned, and its processor seconds."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[T, float]] = loop.create_future()

        def finish(result: tuple[T, float] | None, error: Exception | None) -> None:
            self._busy = False
            if done.done():
                self.on_idle()
            elif error is not None:
                done.set_exception(error)
            elif result is not None:
                done.set_result(result)

        def run() -> None:
            began = time.thread_time()
            result: tuple[T, float] | None = None
            failure: Exception | None = None
            try:
                result = (work(), time.thread_time() - began)
            except Exception as error:
                failure = error
            except BaseException as error:
                # SystemExit in a materializer is a failed run, not the end of a server
                failure = MaterializationFailed(sentence(error), raised_at(error))
            with suppress(RuntimeError):  # the loop has closed, and nothing waits for the result
                loop.call_soon_threadsafe(finish, result, failure)

        self._busy = True
        threading.Thread(target=run, name="cfgsync-materializer", daemon=True).start()
        return await done


def sentence(error: BaseException) -> str:
    """`str(error)`, or its type when that is empty; never more than can be sent to every waiting node."""
    return cut(error_text(error))


def raised_at(error: BaseException) -> str:
    """`KeyError in app.py, line 12`: what was raised, and the last line of the application on the way there; `""` when
    none was. For the server's log, where `'port'` alone would not say where to look."""
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _module(frame.f_globals).startswith("cfgsync_")
    ]
    if not frames:
        return ""
    application = os.path.dirname(
        frames[0][0]
    )  # what it calls from other places is not where its author looks
    file, line = [one for one in frames if os.path.dirname(one[0]) == application][-1]
    return f"{type(error).__name__} in {os.path.basename(file)}, line {line}"


def _module(names: dict[str, Any]) -> str:
    """A module's name, also of the one that was run (`python -m …` calls it `__main__`)."""
    return str(getattr(names.get("__spec__"), "name", None) or names.get("__name__", ""))


class _Metered:
    """Awaits a coroutine and counts the processor seconds of its own steps, so that the loop's other work is not its."""

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
