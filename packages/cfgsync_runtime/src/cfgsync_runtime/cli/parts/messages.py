"""What a command prints: two lines for a failure; while it waits, one live line on a terminal, else a line per change."""

from __future__ import annotations

import sys
from typing import Final, TextIO

from cfgsync_core import CfgsyncError, Unavailable
from cfgsync_core.text import plain

from ...errors import InputError
from .terminal import fitted, is_live, size

OF_THE_SERVER: Final = frozenset(
    {"aiofiles", "aiohttp", "cryptography", "prometheus_client", "pydantic", "rich", "yaml"}
)
"""The modules of the extra `server`, which a node's commands do not load."""

_TO_THE_END: Final = "\x1b[K"  # erases what is right of the cursor


def fail(code: int, happened: str, do: str) -> int:
    """Print what happened and what to do, a line each, on stderr; return `code`."""
    hint = plain(do, None) or "this is a defect of cfgsync: report it with what you did"
    # one write: several nodes may share one log, and a line of one must not end in a line of another
    print(f"{plain(happened, None)}\n{hint}\n", end="", file=sys.stderr, flush=True)
    return code


INSTALL_SERVER: Final = (
    "install cfgsync too, from the checkout (pip install CHECKOUT/packages/*) or the wheels (docs/install.md)"
)


def failed(error: CfgsyncError) -> int:
    """Print why a command failed; the exit code."""
    code = 2 if isinstance(error, InputError) else error.code if isinstance(error, NoAnswer) else 1
    hint = "run it again when that is over" if isinstance(error, Unavailable) else ""
    return fail(code, str(error), getattr(error, "hint", hint))


def not_installed(error: ModuleNotFoundError, prefix: str = "") -> int:
    """Print that a module which a node does not need is missing, and what brings it; the exit code. Any other module: raise `error`."""
    if (error.name or "").partition(".")[0] not in OF_THE_SERVER:
        raise error
    return fail(
        2,
        f"{prefix}this command is not installed: it needs {error.name}, which a node does not have",
        INSTALL_SERVER,
    )


def note(sentence: str) -> None:
    """Print a remark on stderr, in one write, as `fail` does."""
    print(f"note: {sentence}\n", end="", file=sys.stderr, flush=True)


class NoAnswer(CfgsyncError):
    """A server did not give the answer that a command needs. `code` is the command's exit code, and with `again` the
    same request may be answered later."""

    def __init__(self, code: int, happened: str, hint: str, again: bool = False) -> None:
        super().__init__(happened)
        self.code = code
        self.hint = hint
        self.again = again


class Over(int):
    """An exit code that ends the process at once: deleting an interpreter, object by object, costs 15 ms of 120."""


class WaitingLine:
    """Why the command still waits: on a terminal one line that is written over; else a line for each change."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self.live = is_live(self._stream)
        self._is_shown = False

    def __call__(self, why: str) -> None:
        text = f"waiting: {why.removeprefix('waiting ')}"
        if self.live:
            columns, _ = size(self._stream)
            self._is_shown = True  # before it is: Ctrl-C may come in between
            print(f"\r{fitted(text, columns - 1)}{_TO_THE_END}", end="", file=self._stream, flush=True)
        else:
            print(text + "\n", end="", file=self._stream, flush=True)

    def clear(self) -> None:
        """Take the live line away, and the `^C` that a terminal wrote behind it."""
        if self._is_shown:
            print(f"\r{_TO_THE_END}", end="", file=self._stream, flush=True)
            self._is_shown = False
