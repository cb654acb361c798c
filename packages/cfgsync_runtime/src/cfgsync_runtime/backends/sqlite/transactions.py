"""One transaction at a time on the writing connection: durable when it returns, and the end of the engine when that is unknown."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from cfgsync_core import CfgsyncError, OutcomeUnknown, StoreFull, Unavailable

from ...errors import again
from .failures import damaged, in_use

CHECKPOINT_BYTES: Final = 32 * 1024 * 1024
"""About how much the write-ahead log may grow before a checkpoint: a larger log is cheaper, a smaller one restarts faster."""

BEAT_SECONDS: Final = 5.0
"""For so long after a commit `beat` makes none."""

_PAGE_BYTES: Final = 4096

T = TypeVar("T")
Moved = TypeVar("Moved", bound=Mapping[str, Any])


class Transactions:
    """`mark` notes a session in the lock file, `probe` reads from the disk, `is_in_place` is False when the path no longer
    names the open file. Every call comes from one thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        *,
        mark: Callable[[int], None],
        probe: Callable[[], None],
        is_in_place: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._path = path
        self._mark = mark
        self._probe = probe
        self._is_in_place = is_in_place
        self._session = 0
        self.logged_bytes = 0
        """About how much the write-ahead log has grown since the last checkpoint."""
        self.written_at = -math.inf
        """When COMMIT returned last, by `time.monotonic`; the past when something failed since."""
        self.fatal: CfgsyncError | None = None
        """Set once, when it is no longer known what is durable."""

    def run(self, work: Callable[[], tuple[T, Moved]], *, always: bool = False) -> tuple[T, Moved]:
        """Run `work`, which returns also what it moved, in one transaction; returns its result when that is durable. It is
        rolled back when nothing was moved, unless `always`. Raises `CfgsyncError` only; nothing was written, unless it is `OutcomeUnknown`."""
        if self.fatal is not None:
            raise again(self.fatal)
        self._refuse_a_file_without_its_name()
        connection, committing = self._connection, False
        try:
            connection.execute("begin immediate")
            result, moved = work()
            if moved or always:
                session = self._session or int.from_bytes(os.urandom(7)) | 1
                if not self._session:
                    self._pulse(f"session = {session}")
                committing = True
                connection.execute("commit")
                if not self._session:
                    # before the first acknowledgement: from now on the log must hold this commit, see log_tail.py
                    self._mark(session)
                    self._session = session
                self.written_at = time.monotonic()
            else:
                connection.execute("rollback")
        except (sqlite3.Error, OSError) as error:
            self.written_at = -math.inf
            failure = in_use(error, self._path)
            if committing and type(failure) is not StoreFull:
                # never repeat a failed fsync: the kernel may have dropped what it could not write
                self.fatal = Unavailable(f"{self._path}: writing failed ({error}); restart the server")
                raise OutcomeUnknown(f"{self._path}: {error} while committing") from error
            self._roll_back()
            raise failure from error
        except BaseException:
            self._roll_back()
            raise
        return result, moved

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:  # SQLite rolls back by itself after some errors
                self._connection.execute("rollback")
        except sqlite3.Error as error:
            self.fatal = Unavailable(f"{self._path}: cannot roll back ({error}); restart the server")

    def beat(self) -> None:
        """Read from the disk, whatever memory holds, and write to it unless a commit has just done so."""

        def write() -> tuple[None, dict[str, object]]:
            self._pulse("beats = beats + 1")
            return None, {}

        self._refuse_a_file_without_its_name()
        try:
            self._probe()
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be read: {error.strerror}") from error
        if time.monotonic() - self.written_at >= BEAT_SECONDS:
            self.run(write, always=True)

    def _refuse_a_file_without_its_name(self) -> None:
        """What is written to a deleted file is lost with the process, so nothing is acknowledged. Raises `Unavailable`."""
        if not self._is_in_place():
            self.written_at = -math.inf
            raise Unavailable(
                f"{self._path} was moved, deleted or replaced while the server runs; nothing was written; stop the server,"
                " put the file back, or a backup, and start it again"
            )

    def _pulse(self, change: str) -> None:
        if self._connection.execute(f"update pulse set {change} where id = 1").rowcount != 1:
            raise damaged(self._path, "its row pulse is lost")
        self.logged_bytes += 2 * _PAGE_BYTES

    @property
    def checkpoint_due(self) -> bool:
        return self.logged_bytes > CHECKPOINT_BYTES and self.fatal is None

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database, as far as readers allow."""
        self.logged_bytes = 0
        self._session = 0
        try:
            self._connection.execute("pragma wal_checkpoint(passive)").fetchall()
        except sqlite3.Error as error:
            if type(in_use(error, self._path)) is Unavailable and "lock" not in str(error):
                self.fatal = Unavailable(f"{self._path}: a checkpoint failed ({error}); restart the server")

    def close(self) -> None:
        """Empty the log. After a fatal error, write nothing more."""
        if self.fatal is not None:
            _abandoned.append(self._connection)
            return
        self.empty_log()
        self._connection.close()

    def empty_log(self) -> None:
        """Copy the whole log into the database, unless a reader is in the way, and note that nothing else must be there."""
        with contextlib.suppress(sqlite3.Error, OSError):  # acknowledged commits are durable in the log
            blocked, _, _ = self._connection.execute("pragma wal_checkpoint(truncate)").fetchone()
            if not blocked:
                self._session = 0
                self._mark(0)


_abandoned: list[sqlite3.Connection] = []
"""Connections that must not be closed, since closing writes and syncs. The process is about to end."""
