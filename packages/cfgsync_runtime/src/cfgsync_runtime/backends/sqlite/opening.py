"""Open a database file: the lock first, then the checks, then one connection to write and one to read."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from typing import Self

from cfgsync_core import StoreRefused

from .counters import read_buckets
from .disk.file import (
    SCHEMA_VERSION,
    check_size,
    connect,
    connect_to_read,
    make_directories,
    prepare,
    recognise,
)
from .disk.inodes import DatabaseFile, refuse_a_second_name
from .disk.lock import FileLock, mark_of_the_dead
from .disk.log_tail import lost_tail
from .disk.migration import migrate, migrated_copy
from .failures import DAMAGE, at_open, damaged, lost
from .folding import UnfoldedBuckets
from .reading import Reader
from .writing import Writer

log = logging.getLogger("cfgsync")


class OpenFile:
    """The locks, the writer and the reader of one file. `writer` is None when it is open for reading only."""

    def __init__(
        self, file: DatabaseFile, lock: FileLock | None, writer: Writer | None, reader: Reader
    ) -> None:
        self._file = file
        self._lock = lock
        self.writer = writer
        self.reader = reader

    @classmethod
    def to_write(
        cls, path: str, clock: Callable[[], int], factory: type[sqlite3.Connection], *, accept_loss: bool
    ) -> Self:
        """Make the file if it is absent. Raises `StoreRefused`, `StoreDamaged`."""
        lock = FileLock(path)
        with contextlib.ExitStack() as undo:
            try:
                make_directories(os.path.dirname(os.path.abspath(path)))
                refuse_a_second_name(path)
                lock.take()
                undo.callback(lock.release)
                prepare(path)
                check_size(path)
                file = DatabaseFile.arrive(path)
                undo.callback(file.leave)
                file.lock()
                undo.callback(file.unlock)
                if file.links() > 1:
                    log.warning("%s has a second name (a hard link); write to none but this one", path)
                missing = lost_tail(os.path.realpath(path), lock.before) if file.first else None
                if missing and not accept_loss:
                    raise lost(path, missing)
                connection = connect(path, "rw", factory)
                undo.callback(connection.close)
                schema = recognise(connection, path)
                if connection.execute("pragma journal_mode=wal").fetchone()[0] != "wal":
                    raise damaged(path, "it cannot keep a write-ahead log")
                if schema < SCHEMA_VERSION:
                    migrate(connection, path)
                    log.info("%s: schema %d is now %d", path, schema, SCHEMA_VERSION)
                writer = Writer(
                    connection,
                    path,
                    clock,
                    mark=lock.mark,
                    probe=file.read_from_disk,
                    is_in_place=file.is_in_place,
                )
                writer.load_counters()
                writer.fold()  # when the disk is full, a later fold does it
                if lock.before and lock.before.session:  # after a crash
                    writer.transactions.empty_log()
                if writer.transactions.fatal is not None:
                    undo.pop_all()
                    writer.close()
                    file.unlock()
                    lock.release()
                    raise StoreRefused(str(writer.transactions.fatal), "check its disk, then start again")
                reading = connect(path, "ro", factory)
            except (OSError, sqlite3.Error) as error:
                raise at_open(error, path) from error
            except DAMAGE as error:
                raise damaged(path, str(error)) from error
            undo.pop_all()
            return cls(file, lock, writer, Reader(reading, path, writer.unfolded))

    @classmethod
    def to_read(cls, path: str, factory: type[sqlite3.Connection]) -> Self:
        """Beside a server or without one, and without a lock. Raises `StoreRefused`, `StoreDamaged`."""
        with contextlib.ExitStack() as undo:
            try:
                file = DatabaseFile.arrive(path)
                undo.callback(file.leave)
                check_size(path)
                live, mark = mark_of_the_dead(path)
                if file.first and not live:
                    missing = lost_tail(os.path.realpath(path), mark)
                    if (
                        missing and not mark_of_the_dead(path)[0]
                    ):  # a server that has begun since writes the log
                        raise lost(path, missing)
                connection = connect_to_read(path, factory)
                undo.callback(connection.close)
                if recognise(connection, path) < SCHEMA_VERSION:
                    older, connection = connection, migrated_copy(connection, path)
                    older.close()
                    undo.callback(connection.close)
                read_buckets(
                    connection, path
                )  # checked here, since a renamed bucket would look like one that was never written
            except (OSError, sqlite3.Error) as error:
                raise at_open(error, path) from error
            except DAMAGE as error:
                raise damaged(path, str(error)) from error
            undo.pop_all()
            return cls(file, None, None, Reader(connection, path, UnfoldedBuckets()))

    def close(self) -> None:
        self.reader.close()  # first, so that the writer makes the last checkpoint
        if self.writer is not None:
            self.writer.close()
            self._file.unlock()
        if self._lock is not None:
            self._lock.release()
        if self.writer is None or self.writer.transactions.fatal is None:
            self._file.leave()
