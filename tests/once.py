"""Something costly that all workers of a session share: the first that needs it makes it, the others wait."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The path `name` in the session's folder, made by `make(path)` in one process of the session. A worker that finds a
    half made one, since another failed, makes it again elsewhere."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / f"{name}.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        made = lock.read().split()
        if made:
            return shared / made[-1]
        target = shared / f"{name}-{os.getpid()}"
        make(target)
        lock.write(target.name)
        return target
