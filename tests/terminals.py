"""A terminal of a test: a real pty of a given size with one of our commands in it, and what its screen shows.

Ctrl-C is the key, not a signal: the kernel's line discipline sends it to whoever is in the foreground.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.processes import PATIENCE

_ESCAPE = re.compile(r"\x1b(?:\[([?0-9;]*)([A-Za-z])|[=>78])")

# Ctrl-C goes to whoever a terminal controls. Not by preexec_fn: a test's scripted servers are threads of this process.
_CONTROLLED = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


class Screen:
    """What a terminal of so many columns and rows shows of what was written to it: the sequences that our commands and
    rich use, and an error for any other. `text` are the lines, also those that have scrolled away."""

    def __init__(self, columns: int, rows: int) -> None:
        self._columns = columns
        self._rows = rows
        self._lines: list[list[str]] = [[]]
        self._top = 0
        self._row = self._column = 0
        self._kept: tuple[list[list[str]], int, int, int] | None = None
        self.is_alternate = False
        self.is_cursor_hidden = False

    def write(self, written: str) -> None:
        at = 0
        while at < len(written):
            if written[at] == "\x1b":
                found = _ESCAPE.match(written, at)
                assert found is not None, f"an escape that is not known: {written[at : at + 12]!r}"
                self._escape(found[1] or "", found[2] or "")
                at = found.end()
                continue
            self._put(written[at])
            at += 1

    @property
    def text(self) -> str:
        return "\n".join("".join(line).rstrip() for line in self._lines).rstrip("\n")

    @property
    def shown(self) -> list[str]:
        """The rows that are on the screen now."""
        return ["".join(line).rstrip() for line in self._lines[self._top :]]

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._down()
        elif character == "\x08":
            self._column = max(self._column - 1, 0)
        elif character != "\x07":
            assert character.isprintable(), f"{character!r} reached the terminal"
            if self._column == self._columns:
                self._column = 0
                self._down()
            line = self._lines[self._row]
            line += " " * (self._column + 1 - len(line))
            line[self._column] = character
            self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append([])
        self._top = max(self._top, self._row - self._rows + 1)

    def _escape(self, words: str, what: str) -> None:
        number = int(words) if words.isdigit() else 0
        if what == "K" and number == 0:
            del self._lines[self._row][self._column :]
        elif what == "K" and number == 2:
            self._lines[self._row].clear()
        elif what == "J" and number in (0, 2):
            if number == 2:
                self._row, self._column = self._top, 0
            del self._lines[self._row][self._column :]
            del self._lines[self._row + 1 :]
        elif what == "A":
            self._row = max(self._row - (number or 1), self._top)
        elif what == "H" and words in ("", "1;1"):
            self._row, self._column = self._top, 0
        elif what in "hl" and words == "?25":
            self.is_cursor_hidden = what == "l"
        elif what in "hl" and words == "?1049":
            self._switch(what == "h")
        else:
            assert what == "m", f"an escape that is not known: {words}{what}"

    def _switch(self, alternate: bool) -> None:
        if alternate and self._kept is None:
            self._kept = (self._lines, self._top, self._row, self._column)
            self._lines, self._top, self._row, self._column = [[]], 0, 0, 0
        elif not alternate and self._kept is not None:
            self._lines, self._top, self._row, self._column = self._kept
            self._kept = None
        self.is_alternate = alternate


class Terminal:
    """`words` in a pty of their own, which is their controlling terminal."""

    def __init__(
        self,
        words: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        columns: int = 80,
        rows: int = 24,
        term: str = "xterm-256color",
    ) -> None:
        self._ours, theirs = pty.openpty()
        self.columns, self.rows = columns, rows
        self.resize(columns, rows)
        clean = {
            name: text
            for name, text in environment.items()
            if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "COLORTERM")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CONTROLLED, *map(str, words)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env={**clean, "TERM": term, **{k: environment[k] for k in ("NO_COLOR",) if environment.get(k)}},
            start_new_session=True,
        )
        os.close(theirs)
        self.written = ""
        self._bytes = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.hang_up()

    def fileno(self) -> int:
        """Our end of it."""
        return self._ours

    def hang_up(self) -> None:
        """Close the terminal, as a window or a lost connection does."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def screen(self) -> Screen:
        """What is shown, when the size never changed."""
        screen = Screen(self.columns, self.rows)
        screen.write(self.written)
        return screen

    def until(self, seen: str | Callable[[str], bool], within: float = PATIENCE) -> None:
        """Return when `seen` was written (escapes taken away), or `seen` says so of it."""
        is_seen = seen if callable(seen) else lambda text: seen in text
        deadline = time.monotonic() + within
        while not is_seen(self.plain):
            assert self._read(deadline), f"{seen!r} never came:\n{self.written!r}"

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def ctrl_c(self) -> None:
        self.press("\x03")

    def end(self, within: float = PATIENCE) -> int:
        """Wait for the end, and return the exit code."""
        deadline = time.monotonic() + within
        while self._read(deadline):
            pass
        return self.process.wait(max(deadline - time.monotonic(), 1.0))

    @property
    def plain(self) -> str:
        """All that was written, without escapes."""
        return _ESCAPE.sub("", self.written)

    def _read(self, deadline: float) -> bool:
        """Whether something more came; False at the end, and when the time is over."""
        if not select.select([self._ours], [], [], max(deadline - time.monotonic(), 0.0))[0]:
            return False
        try:
            more = os.read(self._ours, 65536)
        except OSError:  # EIO: nobody has the other end open
            return False
        self._bytes += more
        self.written = self._bytes.decode(errors="ignore")
        return bool(more)
