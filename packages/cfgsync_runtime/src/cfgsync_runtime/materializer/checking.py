"""Schemas and the validator of documents in a process of their own: whatever one does, the server's loop goes on.

A check without an answer permits nothing: the write is refused as 503, and the process is replaced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Self
from weakref import WeakValueDictionary

from cfgsync_core import MaterializationFailed, Unavailable
from cfgsync_core.log_events import event
from cfgsync_documents import Problem
from cfgsync_documents.service import Question

from ..errors import InputError
from .account import Account
from .child_process import LEAVE, ChildProcess, Ended, to_stderr
from .messages import Failed, Judged, Loaded, Refused, ToServer

ANSWER_WITHIN: Final = 5.0
"""Seconds that a write waits for its check, the queue included; checks are made one at a time."""
SHARED_WITHIN: Final = 2.0
"""Seconds after which a check is ended when one of another scope waits: no scope can keep the others waiting for long."""
LOAD_WITHIN: Final = 60.0

log = logging.getLogger("cfgsync.documents")


class ChildChecker:
    """The `Checker` of a server: `async with ChildChecker("app:MyValidator") as checker:`.

    Entering loads the validator, if there is one, and raises `InputError` when it cannot be loaded. Without one the process
    starts with the first schema that is needed. The other arguments are those of `ChildDecider`.
    """

    def __init__(
        self,
        validator: str | None = None,
        *,
        printed: Callable[[str], object] = to_stderr,
        json_logs: bool = False,
        account: Account | None = None,
    ) -> None:
        self._target = validator or ""
        self._printed = printed
        self._json_logs = json_logs
        self._account = account
        self._turn = asyncio.Lock()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting = 0
        self._is_wanted = asyncio.Event()
        self._process: ChildProcess | None = None
        self._starting: asyncio.Task[ChildProcess] | None = None

    @property
    def has_validator(self) -> bool:
        return bool(self._target)

    async def __aenter__(self) -> Self:
        if not self._target:
            return self
        try:
            await self._ready()
        except (Ended, MaterializationFailed, TimeoutError) as error:
            await self._end()
            why = f"its process {error}" if str(error) else "it takes too long"
            raise InputError(f"loading {self._target}: {why}", "import it in Python to see why") from error
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end(LEAVE)

    async def check(self, question: Question) -> list[Problem]:
        """See `Checker`."""
        under_way = False
        try:
            # a scope waits for its own checks first, so that it has one place in the queue
            async with (
                asyncio.timeout(ANSWER_WITHIN),
                self._turns.setdefault(question.scope, asyncio.Lock()),
                self._next(),
            ):
                process = await self._ready()
                under_way = True
                answer = await self._asked(process, question)
        except TimeoutError as error:
            raise Unavailable(_overdue(under_way)) from error
        except (Ended, MaterializationFailed) as error:
            raise Unavailable(f"documents could not be checked: the process {error}") from error
        except InputError as error:
            raise Unavailable(f"documents could not be checked: {error}") from error
        match answer:
            case Judged(problems=problems):
                return [Problem(*problem) for problem in problems]
            case Failed(sentence=words, at=at, trace=trace):
                log.error(
                    "the validator failed: %s\n%s", words, trace, extra=event("validator_failed", at=at)
                )
                raise Unavailable(f"the validator failed: {at or 'see the log of the server'}")
        raise Unavailable(f"documents could not be checked: the process sends {type(answer).__name__}")

    @asynccontextmanager
    async def _next(self) -> AsyncIterator[None]:
        """The turn of this check."""
        self._waiting += 1
        self._is_wanted.set()
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._is_wanted.clear()
        try:
            yield
        finally:
            self._turn.release()

    async def _asked(self, process: ChildProcess, question: Question) -> ToServer:
        """Raises `TimeoutError` when it has had its time and others wait."""

        async def exchange() -> ToServer:
            await process.send(question)
            return await process.receive()

        async def overdue() -> None:
            await asyncio.sleep(SHARED_WITHIN)
            await self._is_wanted.wait()

        tasks = asyncio.create_task(exchange()), asyncio.create_task(overdue())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                return tasks[0].result()
            raise TimeoutError
        except BaseException:
            process.kill()
            self._start()  # the next check finds it ready
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ready(self) -> ChildProcess:
        """The process. A caller that waits no longer does not end its start."""
        is_starting = self._starting is not None and not self._starting.done()
        if not is_starting and self._process is not None and not self._process.has_ended:
            return self._process
        return await asyncio.shield(self._start())

    def _start(self) -> asyncio.Task[ChildProcess]:
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._started(), name="cfgsync-start-checks")
            self._starting.add_done_callback(_seen)
        return self._starting

    async def _started(self) -> ChildProcess:
        await self._leave()
        self._process = process = await ChildProcess.start(
            self._target, self._printed, self._json_logs, self._account, program="checking_main"
        )
        try:
            async with asyncio.timeout(LOAD_WITHIN):
                match await process.receive():
                    case Loaded():
                        return process
                    case Refused(what=what, hint=hint, trace=trace):
                        raise InputError(what, hint, trace)
                raise MaterializationFailed("begins with another message")
        except BaseException:
            process.kill()
            raise

    async def _end(self, within: float = 0.0) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await self._leave(within)

    async def _leave(self, within: float = 0.0) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.leave(within)


def _overdue(under_way: bool) -> str:
    if under_way:
        return (
            f"documents could not be checked within {ANSWER_WITHIN:g} s ({SHARED_WITHIN:g} s while others wait): a `pattern` of"
            " the schema that repeats a repetition, such as (a+)+, or the validator is too slow for this value"
        )
    return "documents could not be checked yet: other checks, or the start of their process, took the time"


def _seen(starting: asyncio.Task[ChildProcess]) -> None:
    """A start that has failed without a caller is tried again by the next one, which hears why."""
    if not starting.cancelled():
        starting.exception()
