"""Log first, fold later: a commit is durable as rows of history; its entries are written later, sorted, many at once.

A random key has a page of its own in the entries. Each written page is copied into the write-ahead log and back at the next
checkpoint: that was more than half of the cost of a commit. Rows of history are appended, and share a page.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec

from .counters import Bucket, update_bucket
from .failures import DAMAGE, damaged
from .rows import Row, write_entries
from .sums import seal

FOLD_ROWS: Final = 16_384
"""Fold after so many written keys: a larger number is cheaper, a smaller one needs less memory and restarts faster."""

FOLD_BYTES: Final = 8 * 1024 * 1024
"""Or after so many bytes of values."""

_LIVE: Final = "select key, revision, digest, at_ms from entry where bucket = ? and digest is not null"
_TRIM: Final = "delete from history where bucket = ? and revision <= ?"


class Unfolded:
    """What is committed to one bucket and not in its entries yet: the keys of the revisions in (`folded`, `reached`].

    The writer owns it, and the reader's thread may read it: it only grows, holds only what COMMIT has returned for, and
    a fold replaces it by a new one instead of emptying it.
    """

    def __init__(self, folded: int) -> None:
        self.folded = folded
        self.reached = folded
        self.rows: dict[str, Row] = {}
        self.written = 0  # keys, again when they are written again: what a restart has to read
        self.written_bytes = 0

    def add(self, rows: Mapping[str, Row], revision: int, written_bytes: int) -> None:
        self.rows.update(rows)
        self.reached = revision  # after the rows: a reader that sees it finds them
        self.written += len(rows)
        self.written_bytes += written_bytes


class UnfoldedBuckets:
    """What is not folded yet, for every bucket, and whether it is time to fold."""

    def __init__(self) -> None:
        self._buckets: dict[str, Unfolded] = {}
        self._failed_at = (0, 0)
        self.checked: set[str] = set()
        """Buckets whose entries matched their seal once since the file was opened. Both threads add to it."""

    def get(self, bucket: str) -> Unfolded | None:
        return self._buckets.get(bucket)

    def put(self, bucket: str, unfolded: Unfolded) -> None:
        self._buckets[bucket] = unfolded
        if not unfolded.rows:
            self._failed_at = (0, 0)

    def pending(self) -> dict[str, dict[str, Row]]:
        """The rows of each bucket that has any."""
        return {name: unfolded.rows for name, unfolded in self._buckets.items() if unfolded.rows}

    @property
    def due(self) -> bool:
        rows, size = self._written()
        return rows >= self._failed_at[0] + FOLD_ROWS or size >= self._failed_at[1] + FOLD_BYTES

    def postpone(self) -> None:
        """A fold failed: the next one is due when as much has come again, not after each group."""
        self._failed_at = self._written()

    def _written(self) -> tuple[int, int]:
        every = self._buckets.values()
        return sum(each.written for each in every), sum(each.written_bytes for each in every)


def value_bytes(rows: Mapping[str, Row]) -> int:
    return sum(len(value) for _, _, value, _ in rows.values() if value is not None)


def check_entries(
    connection: sqlite3.Connection, path: str, held: Bucket, unfolded: Mapping[str, Row]
) -> None:
    """Raise `StoreDamaged` unless the live entries of a bucket, with what is not folded yet, match its seal."""
    found = connection.execute(_LIVE, (held.id,)).fetchall()
    try:
        live = seal(
            (key, at, digest, ms) for key, (at, digest, _, ms) in unfolded.items() if digest is not None
        )
        live += seal(row for row in found if row[0] not in unfolded)
    except DAMAGE as error:
        raise damaged(path, f"entries of bucket {held.name!r}: {error}") from error
    if live != held.seal:
        raise damaged(path, f"entries of bucket {held.name!r} do not match its seal")


def fold(connection: sqlite3.Connection, path: str, held: Bucket, rows: Mapping[str, Row]) -> Bucket:
    """Write `rows`, all that is not folded of the bucket, and return its new counters."""
    bucket = msgspec.structs.replace(held, folded=held.revision)
    update_bucket(connection, path, bucket, held.version)
    write_entries(connection, bucket.id, rows)
    trim(connection, bucket)
    return bucket


def trim(connection: sqlite3.Connection, bucket: Bucket) -> None:
    """Delete history that is no longer needed. Only a fold may do so: what is not in the entries is in the history only."""
    if bucket.floor:
        connection.execute(_TRIM, (bucket.id, min(bucket.floor, bucket.folded)))
