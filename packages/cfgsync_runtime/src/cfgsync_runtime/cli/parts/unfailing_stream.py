"""A line that cannot be written decides nothing: no error, and no wait for a reader that does not read."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Final, TextIO, cast

from cfgsync_core.text import escaped

PATIENCE: Final = 1.0
"""Seconds to wait for room in a pipe; none after the first time that there was no room, until there is some again."""
_PIECE: Final = select.PIPE_BUF  # so much a pipe takes whole and at once, when it is ready at all


class UnfailingStream(io.TextIOBase):
    """Writes whole lines to a descriptor. What it refuses (closed, full, without a reader, unread) is dropped."""

    def __init__(self, fd: int, encoding: str) -> None:
        self._fd = fd
        self._encoding = encoding
        self._pending = ""
        self._patience = PATIENCE

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "replace"

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._pending += text
        if "\n" in text:
            self.flush()
        return len(text)

    def flush(self) -> None:
        text, self._pending = self._pending, ""
        rest = memoryview(escaped(text).encode(self._encoding, "replace"))
        try:
            while rest and self._is_ready():
                rest = rest[os.write(self._fd, rest[:_PIECE]) :]
        except OSError:
            return

    def _is_ready(self) -> bool:
        waited = select.poll()
        waited.register(self._fd, select.POLLOUT)
        ready = bool(waited.poll(self._patience * 1000))
        self._patience = PATIENCE if ready else 0.0
        return ready


def open_standard_descriptors() -> None:
    """Open 0 to 2 where they are closed: else the next file or connection gets the number, and lines are written into
    it. They are closed again for a command that is started."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


def unfailing(stream: TextIO | None, fd: int) -> TextIO:
    """The stream of descriptor `fd`, which may be None, as one that cannot fail."""
    encoding = getattr(stream, "encoding", None) or sys.getfilesystemencoding()
    return cast(TextIO, UnfailingStream(fd, encoding))


def make_stdout_unfailing() -> None:
    """For a command whose files matter more than its words. A stream that somebody put in its place stays."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        sys.stdout.flush()
        sys.stdout = unfailing(sys.stdout, 1)
