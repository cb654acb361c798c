"""Every read is one short transaction on the reading connection, and returns only what its digest confirms.

Short, because a long read keeps the write-ahead log from being reused (it grew to 41 MB behind one).
"""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from hashlib import sha256

from cfgsync_core import BucketSnapshot, CfgsyncError, Change, Entry, Gap, Unchanged, Version
from cfgsync_core.store import Move, digest_entries

from .counters import Bucket, read_bucket, read_move
from .failures import DAMAGE, damaged, in_use
from .folding import UnfoldedBuckets, check_entries
from .history import HistoryRow, read_history, replay
from .rows import Row
from .sums import seal


class Reader:
    """Everything that only reads. Every call comes from one thread. `unfolded` is the writer's, or empty without one."""

    def __init__(self, connection: sqlite3.Connection, path: str, unfolded: UnfoldedBuckets) -> None:
        self._connection = connection
        self._path = path
        self._unfolded = unfolded

    def version(self, bucket: str) -> Version:
        with self._translated():
            return read_bucket(self._connection, self._path, bucket).version

    def get(self, bucket: str, key: str) -> Entry | None:
        # Both are read before the transaction begins. If the writer folds in between, `held.folded` differs and the
        # entries have the rows; if it commits, the history goes further than `reached`, and the rest is read there.
        unfolded = self._unfolded.get(bucket)
        reached = 0 if unfolded is None else unfolded.reached
        with self._cut(bucket) as held:
            if bucket not in self._unfolded.checked and held.epoch:
                every = replay(self._connection, self._path, held, held.folded)
                check_entries(self._connection, self._path, held, every)
                self._unfolded.checked.add(bucket)
            if unfolded is None or unfolded.folded != held.folded:
                unfolded, reached = None, held.folded
            row = replay(self._connection, self._path, held, reached).get(key)
            if row is None and unfolded is not None:
                row = unfolded.rows.get(key)
            if row is None:
                row = self._folded(held, key)
        return None if row is None or row[1] is None else self._entry(bucket, key, row)

    def snapshot(self, bucket: str, known: Version | None) -> BucketSnapshot | Unchanged:
        with self._cut(bucket) as held:
            version = held.version
            if known == version:
                return Unchanged(version)
            found = self._connection.execute(
                "select key, value, revision, digest, at_ms from entry"
                " where bucket = ? and digest is not null order by key",
                (held.id,),
            ).fetchall()
            unfolded = replay(self._connection, self._path, held, held.folded)
        with self._translated():
            if unfolded:
                rows = {key: (at, digest, value, ms) for key, value, at, digest, ms in found} | unfolded
                found = [
                    (key, value, at, digest, ms)
                    for key, (at, digest, value, ms) in sorted(rows.items())
                    if digest is not None
                ]
            for key, value, _, digest, _ in found:
                if value is None or sha256(value).digest() != digest:
                    raise self._damaged_value(bucket, key)
            entries = tuple([Entry(key, value, at, ms) for key, value, at, _, ms in found])
            if seal((key, at, digest, ms) for key, _, at, digest, ms in found) != held.seal:
                raise damaged(self._path, f"entries of bucket {bucket!r} do not match its seal")
        self._unfolded.checked.add(bucket)
        whole = digest_entries(version, entries, [row[3] for row in found])
        return BucketSnapshot(version, entries, whole, version.resets(known))

    def changes(self, bucket: str, since: Version) -> Sequence[Change] | Gap:
        with self._cut(bucket) as held:
            version = held.version
            if version.resets(since) or since.revision < held.floor:
                return Gap(version)
            rows = read_history(self._connection, self._path, held, since.revision)
            return [self._change(held, row) for row in rows]

    def ping(self) -> None:
        with self._translated():
            self._connection.execute("select max(id) from bucket").fetchone()

    def move(self) -> Move:
        with self._translated():
            return read_move(self._connection, self._path)

    def buckets(self) -> list[str]:
        with self._translated():
            return [name for (name,) in self._connection.execute("select name from bucket order by name")]

    def close(self) -> None:
        self._connection.close()

    def _entry(self, bucket: str, key: str, row: Row) -> Entry:
        revision, digest, value, at_ms = row
        if value is None or sha256(value).digest() != digest:
            raise self._damaged_value(bucket, key)
        return Entry(key, value, revision, at_ms)

    def _damaged_value(self, bucket: str, key: str) -> CfgsyncError:
        return damaged(self._path, f"the value of {bucket}/{key} does not match its digest")

    def _change(self, held: Bucket, row: HistoryRow) -> Change:
        writes: dict[str, bytes | None] = {}
        for key, value in row.writes.items():
            if isinstance(value, bool):
                live = self._folded(held, key)  # a commit with a blob also writes its entries
                # deleting the blob would have cut the history
                if live is None or live[0] != row.revision:
                    raise damaged(self._path, f"{held.name}/{key} of revision {row.revision} is lost")
                writes[key] = self._entry(held.name, key, live).value
            else:
                writes[key] = value
        return Change(row.revision, str(uuid.UUID(bytes=row.commit_id)), row.at_ms, writes)

    def _folded(self, held: Bucket, key: str) -> Row | None:
        row: Row | None = self._connection.execute(
            "select revision, digest, value, at_ms from entry where bucket = ? and key = ?", (held.id, key)
        ).fetchone()
        return row

    @contextlib.contextmanager
    def _cut(self, bucket: str) -> Iterator[Bucket]:
        with self._translated():
            self._connection.execute("begin")
            try:
                yield read_bucket(self._connection, self._path, bucket)
            finally:
                self._connection.execute("rollback")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise in_use(error, self._path) from error
        except DAMAGE as error:
            raise damaged(self._path, str(error)) from error
