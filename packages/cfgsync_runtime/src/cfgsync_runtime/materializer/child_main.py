"""The child's side: loads MODULE:CLASS, keeps its own copy of the registrations, and runs the materializer on request.

`python -P -m cfgsync_runtime.materializer.child_main FD PIPE LOG ACCOUNT MODULE:CLASS`: FD is a socket to the server, PIPE
closes when the server ends, LOG is `json` or `text`, ACCOUNT is the user to run as or `""`. It ends when the server hangs up.
"""

from __future__ import annotations

import ctypes
import fcntl
import io
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import msgspec

from cfgsync_adapter import (
    DocumentsSnapshot,
    NodeRegistration,
    NotReady,
    RegistrationSnapshot,
    SnapshotMaterializer,
)
from cfgsync_adapter.application import documents_of, expected_nodes
from cfgsync_adapter.generations import PayloadTooLarge, Prepared, checked
from cfgsync_adapter.runs import application_traceback, raised_at, sentence
from cfgsync_core.text import shortened
from cfgsync_core.wire import MAX_NOT_READY_CHARACTERS

from ..errors import InputError
from ..process.logs import log_of_application
from .account import become
from .loading import load_materializer
from .messages import (
    LENGTH_BYTES,
    MAX_ANSWER_BYTES,
    MAX_FRAME_BYTES,
    Blobs,
    Changed,
    Documents,
    Failed,
    Loaded,
    Made,
    NotYet,
    Refused,
    ToChild,
    ToServer,
    framed,
)
from .own_loop import OwnLoop

PIECE_BYTES: Final = 512 * 1024
"""The size of a message to the server's event loop."""
PR_SET_PDEATHSIG: Final = 1

T = TypeVar("T")


def main() -> None:
    """Serve the server at the other end of the socket until it hangs up."""
    line, target = attached()
    with (
        line,
        line.makefile("rb") as received,
        suppress(BrokenPipeError, ConnectionResetError, KeyboardInterrupt),  # interrupted between two runs
    ):
        pid = os.getpid()
        try:
            try:
                materializer = load_materializer(target)
            finally:
                end_a_twin(pid)
            revision = str(getattr(materializer, "revision", ""))
            loaded = Loaded(revision, expected_nodes(materializer), documents_of(materializer))
        except InputError as error:
            line.sendall(framed(refused(error)))
            return
        line.sendall(framed(loaded))
        child = Child(materializer, pid)
        while (message := read(received, _to_child)) is not None:
            for answer in child.answers(message):
                line.sendall(answer)


def attached() -> tuple[socket.socket, str]:
    """Make this process the child that its arguments say: the socket to the server, and the target to load."""
    descriptor, lifeline = int(sys.argv[1]), int(sys.argv[2])
    as_json, account, target = sys.argv[3] == "json", sys.argv[4], sys.argv[5]
    close_all_but(descriptor, lifeline)
    prefer_for_oom_kill()
    become(account)  # the kernel forgets by it whose death ends this process
    line = socket.socket(fileno=descriptor)
    for each in (descriptor, lifeline):
        os.set_inheritable(each, False)  # not for programs that the application starts
    die_with_server(lifeline)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # output before a kill −9 is not lost
    log_of_application(as_json)
    # where the materializer is, is what it raises there; a server that was started with & ignores SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not os.environ.get("PYTHONBREAKPOINT"):
        sys.breakpointhook = refuse_breakpoint
    return line, target


def refused(error: InputError) -> Refused:
    """The answer to the server when the target cannot be loaded."""
    at = "" if error.__cause__ is None else raised_at(error.__cause__)
    return Refused(_short(str(error)), _short(error.hint), at, error.trace)


class Child:
    """A materializer and its copy of the registrations."""

    def __init__(self, materializer: SnapshotMaterializer, pid: int) -> None:
        self._materializer = OwnLoop(materializer)
        self._registrations: dict[str, NodeRegistration] = {}
        self._documents: DocumentsSnapshot | None = None
        self._sent: frozenset[str] = frozenset()
        self._pid = pid

    def answers(self, message: ToChild) -> Iterator[bytes]:
        """The frames of the answer to `Decide`; `Changed` and `Documents` have none."""
        if isinstance(message, Documents):
            self._documents = DocumentsSnapshot.from_json(message.json, message.version)
            return
        if isinstance(message, Changed):
            for identifier in message.gone:
                self._registrations.pop(identifier, None)
            self._registrations.update((r.identifier, r) for r in message.registrations)
            return
        snapshot = RegistrationSnapshot(
            self._registrations.copy(),
            version=message.version,
            first_at=message.first_at,
            changed_at=message.changed_at,
            unpublished_at=message.unpublished_at,
            dry_run=message.dry_run,
        )
        began = time.process_time()
        try:
            try:
                result = checked(self._materializer.materialize_snapshot(snapshot, self._documents))
            finally:
                end_a_twin(self._pid)
            if isinstance(result, NotReady):
                last: ToServer = NotYet(message.run, result, time.process_time() - began)
            else:
                size = sum(map(len, result.blobs.values()))
                if size > MAX_ANSWER_BYTES:
                    raise PayloadTooLarge(
                        f"the files of all nodes are {size} bytes, at most {MAX_ANSWER_BYTES} are taken"
                    )
                last = Made(
                    message.run,
                    result.map_key,
                    time.process_time() - began,
                    result.accepts_shrink,
                    result.at_once,
                )
            frame = framed(last)
            if len(frame) > MAX_FRAME_BYTES:
                raise PayloadTooLarge(
                    f"a NotReady of {len(frame)} bytes, at most {MAX_FRAME_BYTES} are taken"
                )
        except BaseException as error:  # SystemExit in a materializer is a failed run
            yield framed(Failed(message.run, sentence(error), raised_at(error), application_traceback(error)))
            return
        if isinstance(result, Prepared):
            # the server holds the blobs of the last answer: an unchanged node costs nothing
            fresh = {key: blob for key, blob in result.blobs.items() if key not in self._sent}
            yield from _pieces(message.run, fresh)
            self._sent = frozenset(result.blobs)
        yield frame


def close_all_but(*kept: int) -> None:
    """Close what the server has inherited, and what its event loop leaves open, but for stdin, stdout, stderr and these."""
    first = 3
    for descriptor in (*sorted(kept), os.sysconf("SC_OPEN_MAX")):
        os.closerange(first, descriptor)
        first = descriptor + 1


def end_a_twin(pid: int) -> None:
    """End this process if it is not process `pid` but a fork of it that the application let return: it would answer the
    server too, and read its messages. `sys.exit()` in it is an end as it was meant."""
    if os.getpid() == pid:
        return
    leaving = sys.exc_info()[1]
    if isinstance(leaving, SystemExit):
        os._exit(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
    logging.getLogger("materializer").error(
        "a process that the application forked returned as if it were the application, and is ended;"
        " end such a process with os._exit()"
    )
    os._exit(1)


def refuse_breakpoint(*_: object, **__: object) -> NoReturn:
    """A debugger would read from no terminal, and end the run without a word."""
    raise RuntimeError("breakpoint() needs a terminal: use `cfgsync serve MODULE:CLASS --debug`")


def die_with_server(lifeline: int) -> None:
    """End at once when the server ends, even by kill −9, with the whole process group: then `lifeline` closes.

    On Linux the kernel sends the signal. Elsewhere a thread waits, which the materializer can delay while it holds the
    interpreter; an application that forks would get Python's warning about threads.
    """
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        with suppress(OSError, AttributeError):  # in case the application closes every file
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if _ends(lifeline, within=0):  # before the signal was set up
            os.killpg(0, signal.SIGKILL)
        return

    def watch() -> None:
        _ends(lifeline)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="cfgsync-server", daemon=True).start()


def _ends(pipe: int, within: int | None = None) -> bool:
    """Wait `within` milliseconds, or for ever; True when the other end of the pipe is closed."""
    poll = select.poll()
    poll.register(pipe, 0)  # reports a hang-up
    return bool(poll.poll(within))


def prefer_for_oom_kill() -> None:
    """When memory runs out, let the kernel kill this process, which costs one run, and not the server."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def read(received: io.BufferedReader, decode: Callable[[bytes], T]) -> T | None:
    """The next message, None when the server has hung up."""
    length = received.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    message = received.read(int.from_bytes(length))
    return decode(message) if len(message) == int.from_bytes(length) else None


def _pieces(run: int, blobs: Mapping[str, bytes]) -> Iterator[bytes]:
    gathered: list[tuple[str, bytes]] = []
    size = 0
    for key, blob in blobs.items():
        for at in range(0, len(blob) or 1, PIECE_BYTES):
            piece = blob[at : at + PIECE_BYTES]
            gathered.append((key, piece))
            size += len(piece)
            if size >= PIECE_BYTES:
                yield framed(Blobs(run, gathered))
                gathered, size = [], 0
    if gathered:
        yield framed(Blobs(run, gathered))


_to_child: Final[Callable[[bytes], ToChild]] = msgspec.msgpack.Decoder(ToChild).decode


def _short(text: str) -> str:
    return shortened(text, MAX_NOT_READY_CHARACTERS)


if __name__ == "__main__":
    main()
