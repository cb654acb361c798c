"""The memory, environment and open files of a server and of a watching node are closed to other processes of the same user."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def refuse_inspection() -> None:
    """From now on only root may trace this process, or read its memory, its environment and its open files in /proc, and it
    leaves no core file. On Linux; a program that it starts is not affected."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
