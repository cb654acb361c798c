"""An interactive shell on a terminal of its own, into which blocks of a page are pasted."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 60.0


class PastedShell:
    """`bash -i` in a directory; it ends with everything that it started."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.chdir(directory)
            os.execvpe(
                "bash", ["bash", "--norc", "--noprofile", "-i"], {**environment, "TERM": "dumb", "PS1": ""}
            )
        self._count = 0
        self.paste("stty -echo")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)  # the shell hangs up, and its jobs with it
        until = time.monotonic() + 5
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > until:
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.02)

    def paste(self, text: str) -> str:
        """What the shell and its commands printed until they were through with the text."""
        self._count += 1
        end = f"pasted-{self._count}"
        os.write(self._fd, f"{text}\nprintf '%s-%s\\n' pasted {self._count}\n".encode())
        printed, until = b"", time.monotonic() + PATIENCE
        while not re.search(rb"(?m)^" + end.encode() + rb"\r?$", printed):
            assert time.monotonic() < until, printed.decode()
            if select.select([self._fd], [], [], 0.2)[0]:
                printed += os.read(self._fd, 65536)
        return printed.decode(errors="replace").replace("\r", "")
