"""One server for each database under all its names: a lock on the file itself, which a hard link or a bind mount shares.

`<db>.lock` cannot see a second name. This is an open file description lock on a byte that SQLite does not use: SQLite's own
locks belong to the process, and closing any descriptor of the file would drop them. So the descriptor stays open until the
last store of this process on that file is closed, and a forked child closes its copy, which would keep the lock.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import threading
from typing import Final, NamedTuple, Self

from ..failures import at_open, busy
from .lock import BUSY, FLOCK

_BYTE: Final = 1 << 46
"""Far beyond SQLite's bytes (0x40000000 to 0x400001FF); nothing is ever stored there."""

_PROBE_BYTES: Final = 4096


class Inode(NamedTuple):
    device: int
    number: int

    @classmethod
    def of(cls, path: str) -> Self:
        found = os.stat(path)
        return cls(found.st_dev, found.st_ino)


_guard = threading.Lock()
_stores: dict[Inode, int] = {}
"""How many stores of this process are open on a file."""
_descriptors: dict[Inode, int] = {}
_serving: set[Inode] = set()


def refuse_a_second_name(path: str) -> None:
    """Raise `StoreRefused` for a file that this process serves, before its lock file is opened: that may be a second name,
    too, and closing it would drop the lock."""
    if os.path.exists(path) and Inode.of(path) in _serving:
        raise busy(os.path.realpath(path), str(os.getpid()))


class DatabaseFile:
    """One open store of this process on a database file, from `arrive` to `leave`."""

    def __init__(self, path: str, inode: Inode) -> None:
        self._path = path
        self._inode = inode
        self.first = False
        """No other store of this process was open on the file."""

    @classmethod
    def arrive(cls, path: str) -> Self:
        """Raises `OSError` for a file that is not there."""
        file = cls(os.path.realpath(path), Inode.of(path))
        with _guard:
            file.first = file._inode not in _stores
            _stores[file._inode] = _stores.get(file._inode, 0) + 1
        return file

    def lock(self) -> None:
        """Raises `StoreRefused` when a server has the file, under whatever name."""
        with _guard:
            if self._inode in _serving:
                raise busy(self._path, str(os.getpid()), links=True)
            if self._inode not in _descriptors:
                try:
                    _descriptors[self._inode] = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
                except OSError as error:
                    raise at_open(error, self._path) from error
            self._set(fcntl.F_WRLCK)
            _serving.add(self._inode)

    def read_from_disk(self) -> None:
        """Read the first page from the disk itself. Raises `OSError`."""
        descriptor = _descriptors[self._inode]
        if sys.platform == "linux":
            os.posix_fadvise(descriptor, 0, _PROBE_BYTES, os.POSIX_FADV_DONTNEED)  # else memory answers
        os.pread(descriptor, _PROBE_BYTES, 0)

    def is_in_place(self) -> bool:
        """False when the path names another file than the open one, or none."""
        try:
            return Inode.of(self._path) == self._inode
        except OSError:
            return False

    def links(self) -> int:
        return os.stat(self._path).st_nlink

    def unlock(self) -> None:
        with _guard:
            if self._inode in _serving:
                self._set(fcntl.F_UNLCK)
                _serving.discard(self._inode)

    def leave(self) -> None:
        with _guard:
            left = _stores.pop(self._inode) - 1
            if left:
                _stores[self._inode] = left
            elif self._inode in _descriptors:
                os.close(_descriptors.pop(self._inode))

    def _set(self, kind: int) -> None:
        if sys.platform != "linux":
            return  # its struct is another one; `<db>.lock` is what there is
        order = struct.pack(FLOCK, kind, os.SEEK_SET, _BYTE, 1, 0)
        try:
            fcntl.fcntl(_descriptors[self._inode], fcntl.F_OFD_SETLK, order)
        except OSError as error:
            if error.errno in BUSY:
                raise busy(self._path, "unknown", links=True) from error
            raise at_open(error, self._path) from error


def _forget() -> None:
    for descriptor in _descriptors.values():
        os.close(descriptor)
    for held in (_descriptors, _stores, _serving):
        held.clear()


os.register_at_fork(after_in_child=_forget)
