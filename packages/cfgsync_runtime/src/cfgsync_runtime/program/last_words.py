"""The last lines that a program wrote to stderr are known without changing what it writes to: docs/adr/0044.

A file is read again. A pipe is replaced by one whose content cfgsync passes on. A terminal, or the journal's socket, is
left to the program alone, and then its last lines are not known.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
import sys
import termios
import threading
import time
from contextlib import suppress
from typing import Final

from cfgsync_core.text import plain

KEPT_BYTES: Final = 1024
PATIENCE: Final = 3.0
"""Seconds until what a program has written last counts as stuck, because nobody reads it."""


class LastWords:
    """What the programs that are started with `streams` write to our stderr, since the last `begin()`. Lines of cfgsync itself
    begin with `ours`."""

    def __init__(self, ours: str) -> None:
        self.streams: dict[str, int] = {}
        """For `subprocess.Popen`."""
        self._ours = ours.encode()
        self._file: int | None = None  # where the part of the file begins that counts
        self._reader: int | None = None
        self._kept = b""
        self._lock = threading.Lock()
        self._passed = 0  # bytes that came through the pipe
        self._begins_at = 0  # those before it do not count
        self._is_passing = False
        found = _kind(2) if sys.stderr is not None else None  # closed at the start: 2 may be another file
        if found is None:
            return
        if stat.S_ISREG(found.st_mode):
            self._file = found.st_size
        elif stat.S_ISFIFO(found.st_mode):
            self._reader, writer = os.pipe()
            self.streams["stderr"] = writer
            out = _kind(1) if sys.stdout is not None else None
            if out is not None and (out.st_dev, out.st_ino) == (found.st_dev, found.st_ino):
                self.streams["stdout"] = writer  # one pipe for both: the order stays
            threading.Thread(
                target=self._pass_on, args=(self._reader,), name="cfgsync-words", daemon=True
            ).start()

    def begin(self) -> None:
        """What was written before does not count any more."""
        if self._file is not None and (found := _kind(2)) is not None:
            self._file = found.st_size
        with self._lock:
            self._begins_at = self._passed + _waiting_in(self._reader)
            self._kept = b""

    def words(self) -> str:
        """The last lines, as one; "" where they are not known. It waits for what is still on its way: call it in a thread."""
        self._drain()
        raw = self._kept if self._file is None else self._end_of_file(self._file)
        return plain(raw.decode("utf-8", "replace"), None).strip()

    def close(self) -> None:
        """The program has ended: pass on what is left."""
        self._drain()
        if self.streams:
            os.close(self.streams["stderr"])
            self.streams = {}

    def _end_of_file(self, since: int) -> bytes:
        with suppress(OSError), open("/dev/fd/2", "rb", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            since = max(since if since <= end else 0, end - 4 * KEPT_BYTES)
            file.seek(since)
            lines = file.read(end - since).split(b"\n")
            return b"\n".join(line for line in lines if not line.startswith(self._ours))[-KEPT_BYTES:]
        return b""

    def _drain(self) -> None:
        until = time.monotonic() + PATIENCE
        while (reader := self._reader) is not None and time.monotonic() < until:
            if not select.select([reader], [], [], 0)[0] and not self._is_passing:
                return
            time.sleep(0.01)

    def _pass_on(self, reader: int) -> None:
        with open(reader, "rb", buffering=0) as pipe:
            while select.select([pipe], [], []):
                self._is_passing = True
                with self._lock:
                    piece = pipe.read(65536)
                    self._passed = end = self._passed + len(piece)
                if not piece or not _is_written(piece):
                    break  # nobody reads our stderr any more: the next line of the program fails, so it knows
                with self._lock:
                    counts = min(len(piece), max(end - self._begins_at, 0))
                    self._kept = (self._kept + piece[len(piece) - counts :])[-KEPT_BYTES:]
                self._is_passing = False
            self._reader = None


def _waiting_in(pipe: int | None) -> int:
    with suppress(OSError):  # its other end has gone
        return 0 if pipe is None else int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"1234"))[0])
    return 0


def _is_written(piece: bytes) -> bool:
    left = memoryview(piece)
    while left:
        try:
            left = left[os.write(2, left) :]
        except BlockingIOError:
            select.select([], [2], [])
        except OSError:
            return False
    return True


def _kind(descriptor: int) -> os.stat_result | None:
    with suppress(OSError):
        return os.fstat(descriptor)
    return None
