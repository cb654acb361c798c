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

_TRIES = 8


class DirectoryLock:
    """The lock of the keeper of `target`. It is on the directory that is found there, so `follow` goes along when another
    one takes its place."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._held = ExitStack()
        self._fd = -1
        self._made: list[str] = []

    def take(self) -> None:
        """Lock the directory that is at the path, made if it is missing, and let go of another one. Raises `TargetKept`
        when that has a keeper, else `DiskError`; the lock is then what it was."""
        with on_disk(self.target):
            for _ in range(_TRIES):
                self._made += make_directories(self.target)
                with suppress(FileNotFoundError), ExitStack() as held:
                    fd = held.enter_context(directory(self.target))
                    _lock(held, fd, self.target)
                    if os.path.samestat(os.fstat(fd), os.stat(self.target)):
                        self._held.close()
                        self._held, self._fd = held.pop_all(), fd
                        return
                    # else another process removed it before we had the lock
            raise FileNotFoundError(2, "it appears and disappears")

    def follow(self) -> bool:
        """True when the path leads to another directory than before (moved, replaced, removed), which is locked now.
        Raises as `take`."""
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._fd), os.stat(self.target)):
                return False
        self.take()
        return True

    def release(self) -> None:
        """Let go, and remove the directories that were made and are empty."""
        for path in reversed(
            self._made
        ):  # while the lock is held: the next keeper sees that it locked a removed one
            with suppress(OSError):
                os.rmdir(path)
        self._held.close()


@contextmanager
def locked_directory(target: str) -> Iterator[DirectoryLock]:
    """Be the one keeper of the directory `target` while the context lasts. A missing directory is made, and removed at
    the end if it is still empty. Raises `TargetKept` at once when there is a keeper already, else `DiskError`.
    """
    lock = DirectoryLock(target)
    try:
        lock.take()
        yield lock
    finally:
        lock.release()


def _lock(held: ExitStack, fd: int, target: str) -> None:
    try:
        held.enter_context(locked(fd, target))
    except TargetBusy as busy:
        raise TargetKept(target, busy.process) from None
