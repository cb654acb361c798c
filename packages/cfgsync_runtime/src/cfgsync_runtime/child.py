"""The materializer in a process of its own: whatever it does, the server's loop goes on and the deadline ends it.

Spawned, never forked; told only what changed; ended at the deadline with all that it started, and replaced at the next
run, which tells the new one everything. The server never loads the application.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from cfgsync_adapter import Decision, Prepared, RegistrationSnapshot
from cfgsync_core import MaterializationFailed

from .child_words import (
    LENGTH_BYTES,
    MAX_ANSWER_BYTES,
    MAX_FRAME_BYTES,
    Blobs,
    Changed,
    Decide,
    Failed,
    Loaded,
    Made,
    NotYet,
    Refused,
    ToChild,
    ToServer,
    framed,
)
from .errors import InputError

BATCH: Final = 500
"""Registrations that the event loop encodes at a time."""
BUFFER_BYTES: Final = 1024 * 1024
LEAVE: Final = 0.5
"""Seconds that an idle child has to end by itself, its exit handlers run."""

T = TypeVar("T")

log = logging.getLogger("cfgsync")


class InChild:
    """The `Decider` of `cfgsync serve MODULE:CLASS`: `async with InChild("app:MyMaterializer") as decider:`.

    Entering starts the process and waits until it has loaded the materializer, whose `revision` is here then. Raises
    `InputError` when it cannot be loaded.
    """

    busy = False  # a run that is given up is ended, so nothing has to be waited for

    def __init__(self, target: str) -> None:
        self._target = target
        self._process: _Process | None = None
        self._told = RegistrationSnapshot()
        self._blobs: Mapping[str, bytes] = {}
        self.revision = ""

    async def __aenter__(self) -> Self:
        self._process = process = await _Process.start(self._target)
        try:
            self.revision = _loaded(await process.hear())
        except _Ended as ended:
            await self._end()
            raise InputError(
                f"loading {self._target} ended its process: {ended}", "import it in Python to see why"
            ) from ended
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            await self._process.leave(LEAVE)

    async def decide(self, snapshot: RegistrationSnapshot) -> Decision:
        """See `Decider`. Raises `MaterializationFailed`; when cancelled, the process is ended."""
        try:
            process = await self._running()
            await self._tell(process, snapshot)
            answer = await self._answer(process)
        except _Ended as ended:
            raise MaterializationFailed(f"its process {ended}") from ended
        except BaseException:
            # the deadline, or words that are none: what the process does from here on is nobody's
            if self._process is not None:
                self._process.kill()
            raise
        if isinstance(answer, Failed):
            raise MaterializationFailed(answer.sentence)
        return answer

    async def _running(self) -> _Process:
        """The process, a fresh one that has been told nothing when the last has ended."""
        if self._process is not None and not self._process.has_ended:
            return self._process
        await self._end()
        self._told, self._blobs = RegistrationSnapshot(), {}
        self._process = process = await _Process.start(self._target)
        try:
            revision = _loaded(await process.hear())
        except InputError as error:
            raise MaterializationFailed(f"it cannot be loaded again: {error}; {error.hint}") from error
        if revision != self.revision:
            raise MaterializationFailed(
                f"it was loaded again with revision {revision!r}, and this server has claimed {self.revision!r}: restart it"
            )
        log.info("a fresh process has loaded %s", self._target)
        return process

    async def _tell(self, process: _Process, snapshot: RegistrationSnapshot) -> None:
        changed, gone = snapshot.changes_since(self._told)
        for at in range(0, len(changed), BATCH):
            await process.say(Changed(changed[at : at + BATCH], []))
        if gone:
            await process.say(Changed([], gone))
        await process.say(Decide(snapshot.version, snapshot.first_at, snapshot.changed_at))
        self._told = snapshot

    async def _answer(self, process: _Process) -> Decision | Failed:
        pieces: dict[str, list[bytes]] = {}
        size = 0
        while isinstance(words := await process.hear(), Blobs):
            for key, piece in words.pieces:
                pieces.setdefault(key, []).append(piece)
                size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise MaterializationFailed(f"its process sends more than {MAX_ANSWER_BYTES} bytes of files")
        match words:
            case Made(processor_seconds=seconds):
                try:  # in a thread, since an answer for 50,000 nodes held the loop for 88 ms
                    prepared = await asyncio.to_thread(_joined, words, self._blobs, pieces)
                except (KeyError, msgspec.DecodeError) as error:
                    raise MaterializationFailed(f"its process sends no whole answer: {error}") from error
                self._blobs = prepared.blobs
                return Decision(prepared, seconds)
            case NotYet(answer, seconds):
                return Decision(answer, seconds)
            case Failed():
                return words
        raise MaterializationFailed(f"its process sends {type(words).__name__} for an answer")

    async def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.leave(0)


def _joined(made: Made, held: Mapping[str, bytes], pieces: Mapping[str, list[bytes]]) -> Prepared:
    """The answer from the blobs of the last one and the pieces of new ones."""
    fresh = {key: b"".join(parts) for key, parts in pieces.items()}
    return Prepared.from_blobs(made.map_key, {**held, **fresh}, made.accepts_shrink)


def _loaded(words: ToServer) -> str:
    """The revision of what was loaded. Raises the `InputError` that the child says."""
    if isinstance(words, Refused):
        raise InputError(words.what, words.hint)
    if not isinstance(words, Loaded):
        raise MaterializationFailed(f"its process begins with {type(words).__name__}")
    return words.revision


class _Ended(Exception):
    """The process is no more; the message goes on from "its process"."""


class _Process:
    """One living child, and the socket to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._killed = False
        self._exit = asyncio.create_task(self._watch(), name="cfgsync-child")

    @classmethod
    async def start(cls, target: str) -> _Process:
        """Spawn it. The kernel ends it when the thread that runs this ends: call it from the loop of a whole life."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "cfgsync_runtime.materializer_child"),
                    *(str(theirs.fileno()), target),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=2,  # what it prints is no word of the server's
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # Ctrl-C in a terminal is for the server, a group of its own to be ended
                )
            reader, writer = await asyncio.open_connection(sock=ours, limit=BUFFER_BYTES)
        except BaseException:
            ours.close()
            raise
        return cls(process, reader, writer)

    @property
    def has_ended(self) -> bool:
        return self._killed or self._exit.done() or self._reader.at_eof()

    async def say(self, words: ToChild) -> None:
        """Raises `_Ended`."""
        self._writer.write(framed(words))
        try:
            await self._writer.drain()
        except ConnectionError:
            raise await self._ended() from None
        await asyncio.sleep(0)  # a socket that takes everything at once is no reason to keep the loop

    async def hear(self) -> ToServer:
        """The next words. Raises `_Ended`; `MaterializationFailed` for what is none."""
        try:
            length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES))
            if length > MAX_FRAME_BYTES:
                raise MaterializationFailed(f"its process sends a frame of {length} bytes")
            encoded = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._ended() from None
        await asyncio.sleep(0)
        try:
            words: ToServer = msgspec.msgpack.decode(encoded, type=ToServer)
        except msgspec.DecodeError as error:
            raise MaterializationFailed(f"its process sends what is no answer: {error}") from error
        return words

    def kill(self) -> None:
        """kill −9, with everything that it started and that did not leave its group."""
        self._killed = True
        if not self._exit.done():
            _kill_group(self._process.pid)

    async def leave(self, within: float) -> None:
        """Hang up, and return when it has ended: by itself `within` seconds, or killed."""
        if not self._exit.done() and self._writer.can_write_eof():
            with suppress(OSError):
                self._writer.write_eof()
        await asyncio.wait([self._exit], timeout=within)
        self.kill()
        await asyncio.shield(self._exit)
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _watch(self) -> int:
        """Its exit code. A grandchild that holds the socket open must not make it seem alive."""
        code = await self._process.wait()
        _kill_group(self._process.pid)  # the number is still theirs while one of the group lives
        self._writer.transport.abort()
        return code

    async def _ended(self) -> _Ended:
        """How it ended; one that only hung up is ended."""
        done, _ = await asyncio.wait([self._exit], timeout=LEAVE)
        if not done:
            self.kill()
            return _Ended("closed its connection to the server")
        code = self._exit.result()
        return _Ended(
            f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        )


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
