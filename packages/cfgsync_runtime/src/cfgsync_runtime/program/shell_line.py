"""A shell line of the operator (`--check`, `--reload-command`) ends within its time, and only its last words are kept."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from cfgsync_core.text import plain

from . import children

WITHIN: Final = 30.0
"""Seconds that a shell line has."""

_KEPT_BYTES: Final = 4096
_SHOWN: Final = 400  # characters of its output in a message


class LineEnd(msgspec.Struct, frozen=True):
    """How a shell line ended: what went `wrong`, "" after a success, and its last `words`, which may hold a secret."""

    wrong: str = ""
    words: str = ""

    @property
    def sentence(self) -> str:
        """For the log of this machine."""
        return f"{self.wrong}; its last words: {self.words}" if self.words else self.wrong


def run_line(
    line: str,
    environment: Mapping[str, str],
    within: float = WITHIN,
    is_stopped: Callable[[], bool] = lambda: False,
) -> LineEnd:
    """Run a shell line. What it leaves running after a success is left alone; without a success, or when an exception such
    as Ctrl-C's comes first, its process group is killed."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as output:
        try:
            process = children.start(
                ["/bin/sh", "-c", line],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=dict(environment),
                process_group=0,
            )
        except OSError as error:
            return LineEnd(f"it cannot be run: {error.strerror}")
        finally:
            os.close(writer)
        code = None
        try:
            words, code = _followed(process, output.fileno(), time.monotonic() + within, is_stopped)
        finally:
            if code != 0:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            if code is None:
                children.wait(process)
        if code == 0:
            return LineEnd()
    wrong = f"it did not end within {within:g} s" if code is None else f"exit code {code}"
    return LineEnd(wrong, plain(words.decode("utf-8", "replace"), None)[-_SHOWN:])


def _followed(
    process: subprocess.Popen[bytes], output: int, until: float, is_stopped: Callable[[], bool]
) -> tuple[bytes, int | None]:
    """The end of its output and its exit code, None when the time is over. A background process of the line may keep the
    pipe open, so the end of the line itself counts."""
    kept, is_open = b"", True
    while True:
        ended = _ended(process)
        wait = 0.0 if ended is not None else min(0.05, max(until - time.monotonic(), 0.0))
        if is_open and select.select([output], [], [], wait)[0]:
            chunk = os.read(output, 65536)
            is_open = bool(chunk)
            kept = (kept + chunk)[-_KEPT_BYTES:]
            if time.monotonic() < until and not is_stopped():
                continue
        elif not is_open and wait:
            time.sleep(wait)
        if ended is not None or time.monotonic() >= until or is_stopped():
            return kept, ended


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    try:
        code = children.wait(process, 0)
    except subprocess.TimeoutExpired:
        return None
    return 128 - code if code < 0 else code
