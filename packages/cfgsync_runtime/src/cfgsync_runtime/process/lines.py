"""Lines for stderr that decide nothing: a closed, full or unread stream costs lines, never a file, a signal or an answer."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from typing import Final

HELD: Final = 1_000  # lines; more than that are dropped and counted
PATIENCE: Final = 1.0  # s that the last lines get at the end


class Lines(logging.Handler):
    """Writes to stderr in a thread of its own. It is also a handler for the log."""

    def __init__(self, held: int = HELD) -> None:
        super().__init__()
        self._to = 2 if sys.stderr is not None else None  # closed at the start: 2 may be another file by now
        self._waiting: queue.Queue[str | None] = queue.Queue(held)
        self._dropped = 0
        self._writer = threading.Thread(target=self._write, name="cfgsync-lines", daemon=True)
        self._writer.start()

    def say(self, sentence: str) -> None:
        """Write one line soon."""
        try:
            if self._dropped:
                self._waiting.put_nowait(f"({self._dropped} lines could not be written)")
                self._dropped = 0
            self._waiting.put_nowait(sentence)
        except queue.Full:
            self._dropped += 1

    def emit(self, record: logging.LogRecord) -> None:
        self.say(self.format(record))

    def end(self) -> None:
        """Give the lines that wait a second to be written."""
        try:
            self._waiting.put(None, timeout=PATIENCE)
        except queue.Full:
            return
        self._writer.join(PATIENCE)

    def _write(self) -> None:
        while (sentence := self._waiting.get()) is not None:
            line = f"{sentence}\n".encode("utf-8", "backslashreplace")
            while line and self._to is not None:
                try:
                    line = line[os.write(self._to, line) :]
                except OSError:  # closed, full, or its reader has gone
                    break
