"""Open a database file: the lock first, then the checks, then one connection to write and one to read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from typing import Self

from cfgsync_core import StoreRefused

from .counters import read_buckets
from .failures import DAMAGE, at_open, damaged
from .file import check_size, connect, make_directories, prepare, recognise
from .folding import UnfoldedBuckets
from .lock import FileLock
from .reading import Reader
from .writing import Writer


class OpenFile:
    """The lock, the writer and the reader of one file. `writer` is None when it is open for reading only."""

    def __init__(self, lock: FileLock | None, writer: Writer | None, reader: Reader) -> None:
        self._lock = lock
        self.writer = writer
        self.reader = reader

    @classmethod
    def to_write(cls, path: str, clock: Callable[[], int], factory: type[sqlite3.Connection]) -> Self:
        """Make the file if it is absent. Raises `StoreRefused`, `StoreDamaged`."""
        lock = FileLock(path)
        with contextlib.ExitStack() as undo:
            try:
                make_directories(os.path.dirname(os.path.abspath(path)))
                lock.take()
                undo.callback(lock.release)
                prepare(path)
                check_size(path)
                connection = connect(path, "rw", factory)
                undo.callback(connection.close)
                recognise(connection, path)
                if connection.execute("pragma journal_mode=wal").fetchone()[0] != "wal":
                    raise damaged(path, "it cannot keep a write-ahead log")
                writer = Writer(connection, path, clock)
                writer.load_counters()
                writer.fold()  # when the disk is full, a later fold does it
                if writer.fatal is not None:
                    undo.pop_all()
                    writer.close()
                    lock.release()
                    raise StoreRefused(str(writer.fatal), "check its disk, then start again")
                reading = connect(path, "ro", factory)
            except (OSError, sqlite3.Error) as error:
                raise at_open(error, path) from error
            except DAMAGE as error:
                raise damaged(path, str(error)) from error
            undo.pop_all()
            return cls(lock, writer, Reader(reading, path, writer.unfolded))

    @classmethod
    def to_read(cls, path: str, factory: type[sqlite3.Connection]) -> Self:
        """Beside a server or without one, and without a lock. Raises `StoreRefused`, `StoreDamaged`."""
        with contextlib.ExitStack() as undo:
            try:
                check_size(path)
                connection = connect(path, "ro", factory)
                undo.callback(connection.close)
                recognise(connection, path)
                read_buckets(
                    connection, path
                )  # checked here, since a renamed bucket would look like one that was never written
            except (OSError, sqlite3.Error) as error:
                raise at_open(error, path) from error
            except DAMAGE as error:
                raise damaged(path, str(error)) from error
            undo.pop_all()
            return cls(None, None, Reader(connection, path, UnfoldedBuckets()))

    def close(self) -> None:
        self.reader.close()  # first, so that the writer makes the last checkpoint
        if self.writer is not None:
            self.writer.close()
        if self._lock is not None:
            self._lock.release()
