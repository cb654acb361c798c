"""Each child that cfgsync starts is reaped by its starter; every other child is an orphan and is reaped here.

As PID 1, or as a subreaper, cfgsync inherits the orphans of its program. A wait for any child would take the exit code of
the program too, so the look is first made without reaping (`WNOWAIT`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

_PR_SET_CHILD_SUBREAPER: Final = 36

_lock = threading.Lock()  # a child is in `_started` before anything can look for orphans
_started: set[int] = set()


def start(words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """`subprocess.Popen`, for a child whose end is awaited with `wait`."""
    with _lock:
        process = subprocess.Popen(words, **options)
        _started.add(process.pid)
    return process


def wait(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
    """The child's return code. Raises `subprocess.TimeoutExpired`."""
    code = process.wait(timeout)
    with _lock:
        _started.discard(process.pid)
    return code


def become_subreaper() -> None:
    """Ask the kernel for the orphans of our children, where it offers that (Linux)."""
    if (prctl := linux_prctl()) is not None:
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans() -> bool:
    """Reap every orphan that has ended. True when a child of ours has ended and hides what is behind it: look again."""
    if not sys.platform.startswith("linux"):
        return False
    with _lock:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if ended is None:
                return False
            if ended.si_pid in _started:
                return True
            os.waitpid(ended.si_pid, 0)


def linux_prctl() -> Any:
    """The system call `prctl`, None on a system without it."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True).prctl
    except (ImportError, OSError, AttributeError):
        return None
