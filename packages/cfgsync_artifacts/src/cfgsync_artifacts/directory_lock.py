"""A directory has one keeper: the watcher that keeps its files in step locks it until it ends, kill −9 included.

The lock is on the directory itself and adds no name to it. A writer locks `.generations` below it for one write
(`swapped_directory`), so a keeper excludes other keepers and no writer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from .disk import directory, locked, make_directories, on_disk
from .errors import TargetBusy, TargetKept

_LOCKS = "/proc/locks"
_TRIES = 8


@contextmanager
def locked_directory(target: str) -> Iterator[None]:
    """Be the one keeper of the directory `target` while the context lasts. A missing directory is made, and removed at
    the end if it is still empty. Raises `TargetKept` at once when there is a keeper already, else `DiskError`.
    """
    made: list[str] = []
    with ExitStack() as stack:
        with on_disk(target):
            for _ in range(_TRIES):
                made += make_directories(target)
                with suppress(FileNotFoundError):
                    held = stack.enter_context(ExitStack())
                    fd = held.enter_context(directory(target))
                    _lock(held, fd, target)
                    if os.path.samestat(os.fstat(fd), os.stat(target)):
                        break
                    held.close()  # another process removed it before we had the lock
            else:
                raise FileNotFoundError(2, "it appears and disappears")
        try:
            yield
        finally:
            _remove_empty(made)  # while the lock is held: the next keeper sees that it locked a removed one


def _remove_empty(made: list[str]) -> None:
    for path in reversed(made):
        with suppress(OSError):
            os.rmdir(path)


def _lock(held: ExitStack, fd: int, target: str) -> None:
    try:
        held.enter_context(locked(fd, target))
    except TargetBusy:
        raise TargetKept(target, _holder(os.fstat(fd))) from None


def _holder(of: os.stat_result) -> int | None:
    """The process that holds the lock on this file, where the system tells it (Linux)."""
    file = f"{os.major(of.st_dev):02x}:{os.minor(of.st_dev):02x}:{of.st_ino}"
    with suppress(OSError, ValueError, IndexError), open(_LOCKS, encoding="ascii") as locks:
        for line in locks:
            words = line.split()
            if words[1] == "FLOCK" and words[5] == file and int(words[4]) > 0:
                return int(words[4])
    return None
