"""The materializer in a process of its own: whatever it does, the server's loop goes on and the deadline ends it.

The server never loads the application. It sends the process only what changed; the next run replaces a process that has
ended, and sends the new one everything.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

import msgspec

from cfgsync_adapter import RegistrationSnapshot
from cfgsync_adapter.generations import Prepared
from cfgsync_adapter.runs import Decision
from cfgsync_core import DocumentsSnapshot, MaterializationFailed
from cfgsync_core.log_events import event

from ..errors import InputError
from .account import Account
from .child_process import LEAVE, ChildProcess, Ended, to_stderr
from .messages import (
    MAX_ANSWER_BYTES,
    Answer,
    Blobs,
    Changed,
    Decide,
    Documents,
    Failed,
    Judged,
    Loaded,
    Made,
    NotYet,
    Refused,
    ToServer,
)

BATCH: Final = 500
"""Registrations that the event loop encodes at a time."""
INTERRUPTIONS: Final = "KeyboardInterrupt", "asyncio.exceptions.CancelledError"
"""What `ChildProcess.interrupt` raises, as the last line of a traceback."""
TELLS_WITHIN: Final = 1.0
"""Seconds in which a process that is interrupted says where it was."""
LOAD_WITHIN: Final = 60.0
"""Seconds that loading may take in a fresh process, or twice as long as it took at the start, whichever is longer."""

log = logging.getLogger("cfgsync")


class ChildDecider:
    """The `Decider` of `cfgsync serve MODULE:CLASS`: `async with ChildDecider("app:MyMaterializer") as decider:`.

    Entering starts the process, waits until it has loaded the materializer, and sets `revision`, `expected_nodes` and `documents`. Raises `InputError` when
    it cannot be loaded. A process that replaces it has `load_within` seconds to load it, or twice as long as the first one.
    `printed` gets the lines that the process prints and logs, in a thread; with `json_logs` its log is JSON. The process runs
    as `account`, which must be able to read the module, Python and cfgsync.
    """

    busy = False  # a cancelled run is killed: it never goes on in the background

    def __init__(
        self,
        target: str,
        load_within: float = LOAD_WITHIN,
        *,
        printed: Callable[[str], object] = to_stderr,
        json_logs: bool = False,
        account: Account | None = None,
    ) -> None:
        self._target = target
        self._account = account
        self._load_within = load_within
        self._printed = printed
        self._json_logs = json_logs
        self._run = 0
        self._process: ChildProcess | None = None
        self._sent = RegistrationSnapshot()
        self._sent_documents: DocumentsSnapshot | None = None
        self._blobs: Mapping[str, bytes] = {}
        self.revision = ""
        self.expected_nodes: tuple[str, ...] = ()
        self.documents = ""

    async def __aenter__(self) -> Self:
        began = time.monotonic()
        self._process = process = await self._started()
        try:
            loaded = _loaded(await process.receive())
            self.revision, self.expected_nodes = loaded.revision, loaded.expected_nodes
            self.documents = loaded.documents
            self._load_within = max(self._load_within, 2 * (time.monotonic() - began))
        except Ended as ended:
            await self._end()
            raise InputError(
                f"loading {self._target} ended its process: {ended}",
                f"import it in Python to see why{self._must_read()}",
            ) from ended
        except InputError as error:
            await self._end()
            error.hint += self._must_read()
            raise
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self._process.leave(LEAVE)

    async def ready(self) -> None:
        """See `Decider`. Replaces a process that has ended with one that has loaded the materializer. Raises
        `MaterializationFailed`."""
        if self._process is not None and not self._process.has_ended:
            return
        await self._end()
        self._sent, self._sent_documents, self._blobs = RegistrationSnapshot(), None, {}
        self._process = process = await self._started()
        try:
            await self._load(process)
        except BaseException:
            process.kill()
            raise
        log.info("a fresh process has loaded %s", self._target, extra=event("materializer_loaded"))

    async def decide(
        self, snapshot: RegistrationSnapshot, documents: DocumentsSnapshot | None = None
    ) -> Decision:
        """See `Decider`. Raises `MaterializationFailed`; when cancelled, the process is ended."""
        await self.ready()
        assert self._process is not None
        process = self._process
        try:
            await self._send(process, snapshot, documents)
            answer = await self._answer(process)
        except Ended as ended:
            raise MaterializationFailed(f"its process {ended}") from ended
        except asyncio.CancelledError as cancelled:  # the deadline
            raise cancelled from await self._interrupted(process)
        except BaseException:  # an invalid message: the next run needs a fresh process
            process.kill()
            raise
        if isinstance(answer, Failed):
            raise MaterializationFailed(answer.sentence, answer.at, answer.trace)
        return answer

    async def _interrupted(self, process: ChildProcess) -> MaterializationFailed | None:
        """End the process, and say where in the application it was; None when it does not tell in time."""
        try:
            process.interrupt()
            async with asyncio.timeout(TELLS_WITHIN):
                answer = await self._answer(process)
        except (Ended, MaterializationFailed, TimeoutError):
            return None
        finally:
            process.kill()
        if not isinstance(answer, Failed) or not answer.trace:
            return None
        kind, _, place = answer.at.partition(" in ")
        trace = "\n".join(line for line in answer.trace.split("\n") if line not in INTERRUPTIONS)
        return MaterializationFailed(f"it was in {place or kind}", trace=trace)

    async def _started(self) -> ChildProcess:
        return await ChildProcess.start(self._target, self._printed, self._json_logs, self._account)

    def _must_read(self) -> str:
        """The end of a hint, for a process that runs as another user."""
        if self._account is None:
            return ""
        return f"; user {self._account.name} must be able to read the module, its directory, {sys.executable} and its packages"

    async def _load(self, process: ChildProcess) -> None:
        try:
            async with asyncio.timeout(self._load_within):
                message = await process.receive()
        except TimeoutError as error:
            raise MaterializationFailed(
                f"loading it again took over {round(self._load_within, 1):g} s"
            ) from error
        except Ended as ended:
            raise MaterializationFailed(f"its process {ended}") from ended
        if isinstance(message, Refused):
            again = "it cannot be loaded again: "
            at = f"{again}{message.at}" if message.at else ""
            raise MaterializationFailed(f"{again}{message.what}; {message.hint}", at, message.trace)
        loaded = _loaded(message)
        revision = loaded.revision
        if loaded.documents != self.documents:
            raise MaterializationFailed(
                f"it was loaded again with documents {loaded.documents!r}, and this server reads {self.documents!r}: restart the server"
            )
        if revision != self.revision:
            raise MaterializationFailed(
                f"it was loaded again with revision {revision!r}, and this server runs revision {self.revision!r}: restart the server"
            )

    async def _send(
        self, process: ChildProcess, snapshot: RegistrationSnapshot, documents: DocumentsSnapshot | None
    ) -> None:
        changed, gone = snapshot.changes_since(self._sent)
        for at in range(0, len(changed), BATCH):
            await process.send(Changed(changed[at : at + BATCH], []))
        if gone:
            await process.send(Changed([], gone))
        if documents is not None and documents is not self._sent_documents:
            await process.send(Documents(documents.version, dict(documents.json)))
            self._sent_documents = documents
        facts = (snapshot.first_at, snapshot.changed_at, snapshot.unpublished_at, snapshot.dry_run)
        self._run += 1
        await process.send(Decide(self._run, snapshot.version, *facts))
        self._sent = snapshot

    async def _answer(self, process: ChildProcess) -> Decision | Failed:
        pieces: dict[str, list[bytes]] = {}
        size = 0
        while isinstance(message := await self._received(process), Blobs):
            for key, piece in message.pieces:
                pieces.setdefault(key, []).append(piece)
                size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise MaterializationFailed(f"its process sends more than {MAX_ANSWER_BYTES} bytes of files")
        match message:
            case Made(processor_seconds=seconds):
                try:  # in a thread, since an answer for 50,000 nodes blocked the loop for 88 ms
                    prepared = await asyncio.to_thread(_joined, message, self._blobs, pieces)
                except (KeyError, msgspec.DecodeError) as error:
                    raise MaterializationFailed(f"its process sends an incomplete answer: {error}") from error
                self._blobs = prepared.blobs
                return Decision(prepared, seconds)
            case NotYet(answer=reason, processor_seconds=seconds):
                return Decision(reason, seconds)
            case Failed():
                return message

    async def _received(self, process: ChildProcess) -> Answer:
        """The next message of the answer to this run; a second answer to an earlier one is dropped."""
        is_told = False
        while True:
            message = await process.receive()
            if isinstance(message, Loaded | Refused | Judged):
                raise MaterializationFailed(f"its process sends {type(message).__name__} as an answer")
            if message.run == self._run:
                return message
            if not is_told:
                is_told = True
                log.warning(
                    "the materializer's process answered run %d again; that answer is dropped",
                    message.run,
                    extra=event("answer_dropped", run=message.run),
                )

    async def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.leave(0)


def _joined(made: Made, held: Mapping[str, bytes], pieces: Mapping[str, list[bytes]]) -> Prepared:
    """The answer from the blobs of the last one and the pieces of new ones."""
    fresh = {key: b"".join(parts) for key, parts in pieces.items()}
    return Prepared.from_blobs(made.map_key, {**held, **fresh}, made.accepts_shrink, made.at_once)


def _loaded(message: ToServer) -> Loaded:
    """What is known of the loaded materializer. Raises the `InputError` that the child sent."""
    if isinstance(message, Refused):
        raise InputError(message.what, message.hint, message.trace)
    if not isinstance(message, Loaded):
        raise MaterializationFailed(f"its process begins with {type(message).__name__}")
    return message
