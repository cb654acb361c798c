"""One spawned process and the socket to it: when it or the server ends, everything that it started ends too.

A program that leaves its process group is out of reach; only a cgroup ends that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from cfgsync_core import MaterializationFailed

from ..process.lines import read_lines
from ..program.environment import for_materializers
from .account import Account
from .messages import LENGTH_BYTES, MAX_FRAME_BYTES, ToServer, framed

BUFFER_BYTES: Final = 1024 * 1024
LEAVE: Final = 0.5
"""Seconds that an idle child has to end by itself, its exit handlers run."""
LAST_WORDS: Final = 0.5
"""Seconds that the output of a child that has ended has to be read."""


class Ended(Exception):
    """The process has ended; the message continues "its process"."""


class ChildProcess:
    """A child that runs, and the socket to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        lifeline: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        output: threading.Thread,
    ) -> None:
        self._process = process
        self._lifeline = lifeline
        self._reader = reader
        self._writer = writer
        self._output = output
        self._killed = False
        self._exit = asyncio.create_task(self._watch(), name="cfgsync-child")

    @classmethod
    async def start(
        cls,
        target: str,
        printed: Callable[[str], object],
        json_logs: bool,
        account: Account | None = None,
        *,
        program: str = "child_main",
    ) -> ChildProcess:
        """Spawn the module `program`, as `account` if there is one; `printed` gets its output, in a thread. The kernel ends it when the calling thread ends (call it from the main loop), and its whole group when
        the lifeline closes, a pipe whose other end only the server holds."""
        ours, theirs = socket.socketpair()
        tied, lifeline = os.pipe()
        output, its_output = os.pipe()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", f"cfgsync_runtime.materializer.{program}"),
                    *(str(theirs.fileno()), str(tied), "json" if json_logs else "text"),
                    *("" if account is None else account.words(), target),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=its_output,
                    stderr=its_output,  # a pipe of its own: the server's stderr may be unread, or gone
                    pass_fds=(theirs.fileno(), tied),
                    start_new_session=True,  # Ctrl-C in a terminal reaches the server only
                    env=for_materializers() | ({} if account is None else account.environment()),
                )
            reader, writer = await asyncio.open_connection(sock=ours, limit=BUFFER_BYTES)
        except BaseException:
            ours.close()
            os.close(lifeline)
            os.close(output)
            raise
        finally:
            os.close(tied)
            os.close(its_output)
        return cls(process, lifeline, reader, writer, read_lines(output, printed))

    @property
    def has_ended(self) -> bool:
        return self._killed or self._exit.done() or self._reader.at_eof()

    async def send(self, message: msgspec.Struct) -> None:
        """Raises `Ended`."""
        self._writer.write(framed(message))
        try:
            await self._writer.drain()
        except ConnectionError:
            raise await self._ended() from None
        await asyncio.sleep(0)  # a socket that takes everything at once must not block the loop

    async def receive(self) -> ToServer:
        """The next message. Raises `Ended`; `MaterializationFailed` for anything else."""
        try:
            length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES))
            if length > MAX_FRAME_BYTES:
                raise MaterializationFailed(f"its process sends a frame of {length} bytes")
            encoded = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._ended() from None
        await asyncio.sleep(0)
        try:
            message: ToServer = msgspec.msgpack.decode(encoded, type=ToServer)
        except msgspec.DecodeError as error:
            raise MaterializationFailed(f"its process sends an invalid message: {error}") from error
        return message

    def interrupt(self) -> None:
        """Raise `KeyboardInterrupt` where its main thread is; in a coroutine `CancelledError`."""
        if not self._exit.done():
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """kill −9 for its whole process group."""
        self._killed = True
        if not self._exit.done():
            _kill_group(self._process.pid)

    async def leave(self, within: float) -> None:
        """Hang up, and return when it has ended, by itself `within` seconds or killed."""
        if not self._exit.done() and self._writer.can_write_eof():
            with suppress(OSError):
                self._writer.write_eof()
        await asyncio.wait([self._exit], timeout=within)
        self.kill()
        await asyncio.shield(self._exit)
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
        await asyncio.to_thread(
            self._output.join, LAST_WORDS
        )  # a process that has left the group may hold it open

    async def _watch(self) -> int:
        """Its exit code. Closes the socket, which a grandchild may hold open."""
        try:
            code = await self._process.wait()
            _kill_group(self._process.pid)  # no other process gets the number while one of the group lives
        finally:
            os.close(self._lifeline)
        self._writer.transport.abort()
        return code

    async def _ended(self) -> Ended:
        """How it ended. A process that only hung up is killed."""
        done, _ = await asyncio.wait([self._exit], timeout=LEAVE)
        if not done:
            self.kill()
            return Ended("closed its connection to the server")
        code = self._exit.result()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return Ended(how)


def to_stderr(text: str) -> None:
    """Write what a child printed."""
    print(text, file=sys.stderr, flush=True)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
