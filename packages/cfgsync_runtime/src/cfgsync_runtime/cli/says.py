"""How a command speaks: two lines for a failure, one live line for who waits at a terminal, one log line a change."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def fail(code: int, happened: str, do: str) -> int:
    """Say what happened and what to do, a line each, on stderr; return `code`."""
    hint = " ".join(do.split()) or "this is a defect of cfgsync: report it with what you did"
    # one write: several nodes may share one log, and a line of one must not end in a line of another
    print(f"{' '.join(happened.split())}\n{hint}\n", end="", file=sys.stderr, flush=True)
    return code


class Over(int):
    """An exit code after which nothing is left to do. The process ends at once: taking an interpreter apart, object by
    object, costs a node's command 15 ms of 120."""


class Waiting:
    """Why it still waits. At a terminal one line that is written over; else a line for each change."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self.live = self._stream.isatty()
        self._shown = 0

    def __call__(self, why: str) -> None:
        text = f"waiting: {why.removeprefix('waiting ')}"
        if self.live:
            text = text[: self._columns() - 1]
            print("\r" + text.ljust(self._shown), end="", file=self._stream, flush=True)
            self._shown = len(text)
        else:
            print(text + "\n", end="", file=self._stream, flush=True)

    def clear(self) -> None:
        """Take the live line away."""
        if self._shown:
            print("\r" + " " * self._shown + "\r", end="", file=self._stream, flush=True)
            self._shown = 0

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except OSError:
            return 80
