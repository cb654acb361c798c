"""Lines for stderr that decide nothing: a closed, full or unread stream costs lines, never a file, a signal or an answer."""

from __future__ import annotations

import logging
import os
import queue
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from cfgsync_core.log_events import event
from cfgsync_core.text import counted

HELD: Final = 1_000  # lines, or pieces of output; more than that are dropped and counted
PATIENCE: Final = (
    1.0  # s that the last lines get at the end, and another process's output when no room is left
)
SILENCE: Final = 1.0  # s without output, after which a part of a line is passed on
PIECE_BYTES: Final = 16 * 1024
RECORD: Final = "\x1e"
"""Begins a log record of another process (ASCII's record separator), which may have printed a part of a line before it."""


class Lines(logging.Handler):
    """Writes to stderr in a thread of its own. It is also a handler for the log.

    Lines that are lost are counted, and the number is written as soon as lines can be written again.
    """

    def __init__(self, held: int = HELD, to: int | None = None) -> None:
        """Holds `held` lines at most; `to` is another descriptor than stderr's."""
        super().__init__()
        is_open = sys.stderr is not None  # closed at the start: 2 may be another file by now
        self._to = 2 if to is None and is_open else to
        self._held = held
        self._waiting: queue.SimpleQueue[tuple[str, bool] | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(
            held // 2
        )  # another process's output must not crowd out our own lines
        self._counting = threading.Lock()
        self._lost = 0
        self._is_stuck = False
        self._is_cut = False
        self._writer = threading.Thread(target=self._write, name="cfgsync-lines", daemon=True)
        self._writer.start()

    def say(self, sentence: str) -> None:
        """Write one line soon."""
        self._put(sentence, False)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            self.say(self.format(record))
        except Exception:
            self.handleError(record)

    def pass_on(self, text: str) -> None:
        """Write one or more lines of another process soon. It blocks while half of the queue is full of them, so call it in a
        thread: for `PATIENCE` the first time, and then not at all until a line has been written."""
        if self._room.acquire(timeout=0.0 if self._is_stuck else PATIENCE):
            if not self._put(text, True):
                self._room.release()
        else:
            self._is_stuck = True
            self._lose(text)

    def end(self) -> None:
        """Give the lines that wait a second to be written."""
        self._waiting.put(None)
        self._writer.join(PATIENCE)

    def _put(self, text: str, is_passed_on: bool) -> bool:
        if self._waiting.qsize() >= self._held:
            self._lose(text)
            return False
        self._waiting.put((text, is_passed_on))
        return True

    def _lose(self, text: str) -> None:
        with self._counting:
            self._lost += text.count("\n") + 1

    def _write(self) -> None:
        while (item := self._waiting.get()) is not None:
            text, is_passed_on = item
            if not self._is_written(text):
                self._lose(text)
            elif self._waiting.empty():
                self._write_number_lost()
            if is_passed_on:
                self._room.release()
        self._write_number_lost()

    def _write_number_lost(self) -> None:
        with self._counting:
            lost, self._lost = self._lost, 0
        if lost and not self._is_written(self.format(_lost(lost))):
            with self._counting:
                self._lost += lost

    def _is_written(self, text: str) -> bool:
        cut = "\n" if self._is_cut else ""
        line = memoryview(f"{cut}{text}\n".encode("utf-8", "backslashreplace"))
        if self._to is None:
            return False
        while line:
            try:
                line = line[os.write(self._to, line) :]
                self._is_cut = True
            except BlockingIOError:  # another process made it so
                _wait_for_room(self._to)
            except OSError:  # closed, full, or its reader has gone
                return False
        self._is_stuck = self._is_cut = False
        return True


def read_lines(pipe: int, write: Callable[[str], object]) -> threading.Thread:
    """Give what another process prints to `write`, whole lines at a time, in a thread that ends, and closes the pipe, when
    the last writer has closed it. A part of a line is passed on after `SILENCE`: the process may hang. What follows a
    `RECORD` is on a line of its own, and is never cut there."""
    mark = RECORD.encode()

    def pass_on(text: bytes) -> None:
        lines = text.replace(b"\n" + mark, b"\n").removeprefix(mark).replace(mark, b"\n")
        write(lines.decode("utf-8", "backslashreplace"))

    def read() -> None:
        rest, is_cut = b"", False
        silence = select.poll()
        silence.register(pipe, select.POLLIN)
        with open(pipe, "rb", buffering=0) as output, suppress(OSError):
            while True:
                if rest and mark not in rest and not silence.poll(SILENCE * 1000):
                    pass_on(rest)
                    rest, is_cut = b"", True
                if not (piece := output.read(PIECE_BYTES)):
                    break
                if is_cut:  # its end is no empty line
                    piece, is_cut = piece.removeprefix(b"\n"), False
                whole, newline, rest = (rest + piece).rpartition(b"\n")
                if newline:
                    pass_on(whole)
                elif len(rest) >= PIECE_BYTES:
                    pass_on(rest)
                    rest = b""
        if rest:
            pass_on(rest)

    reader = threading.Thread(target=read, name="cfgsync-output", daemon=True)
    reader.start()
    return reader


def _wait_for_room(descriptor: int) -> None:
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    room.poll()


def _lost(lines: int) -> logging.LogRecord:
    words = f"{counted(lines, 'line')} could not be written"
    record = logging.LogRecord("cfgsync", logging.WARNING, __file__, 0, words, None, None)
    record.__dict__.update(event("lines_lost", lines=lines))
    return record
