"""Schemas and the validator of documents in a process of their own: whatever one does, the server's loop goes on.

A check without an answer permits nothing: the write is refused as 503, and the process is replaced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Self

from cfgsync_core import MaterializationFailed, Unavailable
from cfgsync_core.log_events import event
from cfgsync_documents import Problem
from cfgsync_documents.service import Question

from ..errors import InputError
from .account import Account
from .child_process import LEAVE, ChildProcess, Ended, to_stderr
from .messages import Failed, Judged, Loaded, Refused, ToServer

ANSWER_WITHIN: Final = 5.0
WAIT_WITHIN: Final = 10.0
"""Seconds that a write waits for its turn and a process; checks are made one at a time."""
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
        self._process: ChildProcess | None = None

    @property
    def has_validator(self) -> bool:
        return bool(self._target)

    async def __aenter__(self) -> Self:
        if not self._target:
            return self
        try:
            async with asyncio.timeout(LOAD_WITHIN):
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
        try:
            async with asyncio.timeout(WAIT_WITHIN), self._turn:
                answer = await self._asked(question)
        except TimeoutError as error:
            raise Unavailable(f"documents could not be checked within {ANSWER_WITHIN:g} s") from error
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

    async def _asked(self, question: Question) -> ToServer:
        process = await self._ready()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await process.send(question)
                return await process.receive()
        except BaseException:
            process.kill()
            raise

    async def _ready(self) -> ChildProcess:
        if self._process is not None and not self._process.has_ended:
            return self._process
        await self._end()
        self._process = process = await ChildProcess.start(
            self._target, self._printed, self._json_logs, self._account, program="checking_main"
        )
        try:
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
        process, self._process = self._process, None
        if process is not None:
            await process.leave(within)
