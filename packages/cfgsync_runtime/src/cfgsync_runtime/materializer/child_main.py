"""The child's side: loads MODULE:CLASS, keeps its own copy of the registrations, and decides when it is told to.

`python -P -m cfgsync_runtime.materializer.child_main FD PIPE MODULE:CLASS`, where FD is a socket to the server, and PIPE ends
when the server does. What the application prints goes to the server's stderr. It ends when the server hangs up.
"""

from __future__ import annotations

import ctypes
import fcntl
import inspect
import io
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from cfgsync_adapter import (
    MaterializationResult,
    NodeRegistration,
    NotReady,
    RegistrationSnapshot,
    RegistrationSnapshotMaterializer,
)
from cfgsync_adapter.generations import Prepared, checked
from cfgsync_adapter.runs import raised_at
from cfgsync_core.text import error_text, shortened
from cfgsync_core.wire import MAX_NOT_READY_CHARACTERS

from ..errors import InputError
from .loading import load_materializer
from .messages import (
    LENGTH_BYTES,
    MAX_ANSWER_BYTES,
    MAX_FRAME_BYTES,
    Blobs,
    Changed,
    Failed,
    Loaded,
    Made,
    NotYet,
    Refused,
    ToChild,
    ToServer,
    framed,
)

if TYPE_CHECKING:
    import asyncio

PIECE_BYTES: Final = 512 * 1024
"""What the server's event loop is given at a time."""
PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Serve the server at the other end of the socket until it hangs up."""
    descriptor, lifeline, target = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    line = socket.socket(fileno=descriptor)
    for each in (descriptor, lifeline):
        os.set_inheritable(each, False)  # a program that the application starts has no part in this
    die_with_server(lifeline)
    be_the_first_to_go()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what was printed before a kill −9 is seen
    with line, line.makefile("rb") as heard, suppress(BrokenPipeError, ConnectionResetError):
        try:
            materializer = load_materializer(target)
            revision = str(getattr(materializer, "revision", ""))
        except InputError as error:
            line.sendall(framed(Refused(_short(str(error)), _short(error.hint))))
            return
        line.sendall(framed(Loaded(revision)))
        child = Child(materializer)
        while (words := _read(heard)) is not None:
            for answer in child.hear(words):
                line.sendall(answer)


class Child:
    """A materializer and the registrations that it was told of."""

    def __init__(self, materializer: RegistrationSnapshotMaterializer) -> None:
        self._materializer = materializer
        self._registrations: dict[str, NodeRegistration] = {}
        self._sent: frozenset[str] = frozenset()
        self._runner: asyncio.Runner | None = None

    def hear(self, words: ToChild) -> Iterator[bytes]:
        """The frames of an answer, if it is a question."""
        if isinstance(words, Changed):
            for identifier in words.gone:
                self._registrations.pop(identifier, None)
            self._registrations.update((r.identifier, r) for r in words.registrations)
            return
        snapshot = RegistrationSnapshot(
            self._registrations.copy(),
            version=words.version,
            first_at=words.first_at,
            changed_at=words.changed_at,
        )
        began = time.process_time()
        try:
            result = self._ask(snapshot)
            if isinstance(result, NotReady):
                last: ToServer = NotYet(result, time.process_time() - began)
            else:
                _refuse_too_much(result.blobs)
                last = Made(result.map_key, time.process_time() - began, result.accepts_shrink)
            frame = framed(last)
            if len(frame) > MAX_FRAME_BYTES:
                raise ValueError(f"a NotReady of {len(frame)} bytes, at most {MAX_FRAME_BYTES} are taken")
        except BaseException as error:  # SystemExit in a materializer is a failed run
            yield framed(Failed(_short(error_text(error)), _short(raised_at(error))))
            return
        if isinstance(result, Prepared):
            # the server holds what it was sent for the answer before this one: an unchanged node costs nothing
            yield from _pieces({key: blob for key, blob in result.blobs.items() if key not in self._sent})
            self._sent = frozenset(result.blobs)
        yield frame

    def _ask(self, snapshot: RegistrationSnapshot) -> NotReady | Prepared:
        result = self._materializer.materialize_snapshot(snapshot)
        return checked(self._awaited(result) if inspect.isawaitable(result) else result)

    def _awaited(self, result: Awaitable[MaterializationResult]) -> MaterializationResult:
        """What an `async def` gives, on an event loop that is kept: a session that it opened serves its next run."""
        import asyncio

        async def settled() -> MaterializationResult:
            return await result

        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(settled())


def die_with_server(lifeline: int) -> None:
    """End at once with the server, also by kill −9, whatever the materializer is doing, and with all that it started
    and that did not leave the process group: `lifeline` is a pipe that nobody writes to, and that ends with the server.

    On Linux the kernel does it: the end of the pipe is a signal for the group. Elsewhere a thread sees the end, as soon
    as the materializer lets go of the interpreter; not on Linux too, since an application that forks is warned of
    threads (Python 3.12).
    """
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        with suppress(OSError, AttributeError):  # for an application that closes every file it did not open
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if _ends(lifeline, within=0):  # before it was a signal
            os.killpg(0, signal.SIGKILL)
        return

    def watch() -> None:
        _ends(lifeline)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="cfgsync-server", daemon=True).start()


def _ends(pipe: int, within: int | None = None) -> bool:
    """True when nobody holds the other end of a pipe any more; waited for `within` milliseconds, or for ever."""
    poll = select.poll()
    poll.register(pipe, 0)  # a hang-up is always told
    return bool(poll.poll(within))


def be_the_first_to_go() -> None:
    """When memory runs out, the kernel takes this process, whose loss is one failed run, and not the server."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _read(heard: io.BufferedReader) -> ToChild | None:
    """The next words; None when the server has hung up."""
    length = heard.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    words = heard.read(int.from_bytes(length))
    return msgspec.msgpack.decode(words, type=ToChild) if len(words) == int.from_bytes(length) else None


def _refuse_too_much(blobs: Mapping[str, bytes]) -> None:
    size = sum(map(len, blobs.values()))
    if size > MAX_ANSWER_BYTES:
        raise ValueError(f"the files of all nodes are {size} bytes, at most {MAX_ANSWER_BYTES} are taken")


def _pieces(blobs: Mapping[str, bytes]) -> Iterator[bytes]:
    gathered: list[tuple[str, bytes]] = []
    size = 0
    for key, blob in blobs.items():
        for at in range(0, len(blob) or 1, PIECE_BYTES):
            piece = blob[at : at + PIECE_BYTES]
            gathered.append((key, piece))
            size += len(piece)
            if size >= PIECE_BYTES:
                yield framed(Blobs(gathered))
                gathered, size = [], 0
    if gathered:
        yield framed(Blobs(gathered))


def _short(text: str) -> str:
    return shortened(text, MAX_NOT_READY_CHARACTERS)


if __name__ == "__main__":
    main()
