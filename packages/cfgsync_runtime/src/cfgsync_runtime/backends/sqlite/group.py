"""What a group of commits does to one bucket: decided in memory against one read, then written in a few statements.

Each step of a statement lets go of the interpreter lock and must wait for it again, so a group costs steps in the number
of its buckets, not of its members: many rows go into one `values`, and what is read comes back as one row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from cfgsync_core import BLOB, HISTORY_REVISIONS, Conflict, Entry, Version

from .counters import Bucket, insert_bucket, update_bucket
from .failures import damaged
from .sums import entry_sum, history_digest

SLACK: Final = 250
"""History is cut when it is this much too long, so that cutting costs next to nothing."""

_PAGE_BYTES: Final = 4096
_ABSENT: Final = (0, None)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_heads: Final = msgspec.json.Decoder(list[tuple[str, int, str]]).decode

_HEADS: Final = (
    "select json_group_array(json_array(key, revision, hex(digest))) from entry"
    " where bucket = ? and key in (select value from json_each(?))"
)
_FORGET: Final = "delete from entry where bucket = ? and key in (select value from json_each(?))"
_TRIM: Final = "delete from history where bucket = ? and revision <= ?"


def _by_rows(table: str, columns: int) -> dict[int, str]:
    """The statement that writes 128, 64, … 1 rows: few enough that SQLite keeps each prepared."""
    row = "(" + ", ".join("?" * columns) + ")"
    return {
        rows: f"replace into {table} values {', '.join([row] * rows)}"
        for rows in (128, 64, 32, 16, 8, 4, 2, 1)
    }


_WRITE_ENTRIES: Final = _by_rows("entry", 5)
_WRITE_HISTORY: Final = _by_rows("history", 6)


class BucketGroup:
    """The members of one group that name one bucket. `add` decides in memory; `write` writes what was decided."""

    def __init__(self, bucket: Bucket, epoch: str, now_ms: int) -> None:
        self.bucket = bucket  # a copy: the group may fail
        self._held = bucket.version
        self._floor = bucket.floor
        self._epoch = bucket.epoch or epoch  # a bucket is born with its first change
        self._at_ms = max(bucket.at_ms, now_ms)
        self._heads: dict[str, tuple[int, bytes | None]] = {}
        self._entries: dict[str, tuple[int, str, int, bytes | None, bytes | None] | None] = {}
        self._history: list[object] = []

    def read_heads(self, connection: sqlite3.Connection, path: str, keys: Collection[str]) -> None:
        """Revision and digest of each of `keys`: the one read that every member is checked against."""
        if keys and not self.is_new:
            names = msgspec.json.encode(list(keys)).decode()
            found = connection.execute(_HEADS, (self.bucket.id, names)).fetchone()[0]
            try:
                heads = _decode_heads(found)
            except msgspec.DecodeError as error:
                raise damaged(path, f"an entry of bucket {self.bucket.name!r}: {error}") from error
            self._heads = {key: (at, bytes.fromhex(digest) or None) for key, at, digest in heads}

    @property
    def is_new(self) -> bool:
        return not self._held.epoch

    @property
    def changed(self) -> bool:
        return bool(self._history)

    def add(
        self, writes: Mapping[str, bytes | None], expected: Mapping[str, int] | None, commit_id: int
    ) -> Version | Conflict:
        """One member, decided on what the store holds and on the members before it."""
        heads, bucket = self._heads, self.bucket
        if expected:
            for key, want in expected.items():
                at, digest = heads.get(key, _ABSENT)
                if (digest is not None) if want == 0 else (at != want):
                    return Conflict(bucket.name, key, want, at)
        revision = bucket.revision + 1
        told: dict[str, bytes | bool | None] = {}
        for key, value in writes.items():
            at, digest = heads.get(key, _ABSENT)
            new = None if value is None else sha256(value).digest()
            if new == digest:
                continue
            blob = key.startswith(BLOB)
            if digest is not None:
                bucket.seal -= entry_sum(key, at, digest)
                if blob:
                    bucket.floor = max(bucket.floor, at)  # history cannot tell that blob any more
            if new is not None:
                bucket.seal += entry_sum(key, revision, new)
            if blob and new is None:
                del heads[key]
                self._entries[key] = None
            else:
                heads[key] = (revision, new)
                self._entries[key] = (bucket.id, key, revision, new, value)
            told[key] = True if blob and new is not None else value
        if told:
            bucket.epoch, bucket.revision = self._epoch, revision
            body = _encode(told)
            name = commit_id.to_bytes(16, "big")
            self._history += (
                bucket.id,
                revision,
                name,
                self._at_ms,
                body,
                history_digest(revision, self._at_ms, name, body),
            )
        return Version(bucket.epoch, bucket.revision)

    def write(self, connection: sqlite3.Connection, path: str) -> int:
        """Write what was decided, and say about how many bytes the log grew."""
        bucket = self.bucket
        bucket.at_ms = self._at_ms
        if bucket.revision - bucket.floor >= HISTORY_REVISIONS + SLACK:
            bucket.floor = bucket.revision - HISTORY_REVISIONS
        if self.is_new:
            insert_bucket(connection, bucket)
        else:
            update_bucket(connection, path, bucket, self._held)
        rows: list[object] = []
        forgotten, written_bytes = [], 0
        for key, row in self._entries.items():
            if row is None:
                forgotten.append(key)
            else:
                rows += row
                written_bytes += _PAGE_BYTES + len(row[4] or b"")
        if forgotten:
            connection.execute(_FORGET, (bucket.id, msgspec.json.encode(forgotten).decode()))
        _write_rows(connection, _WRITE_ENTRIES, 5, rows)
        _write_rows(connection, _WRITE_HISTORY, 6, self._history)
        if bucket.floor != self._floor:
            connection.execute(_TRIM, (bucket.id, bucket.floor))
        return written_bytes


def write_entries(connection: sqlite3.Connection, bucket: Bucket, entries: Sequence[Entry]) -> None:
    """Write the entries of a bucket that has none, and put its seal together."""
    rows: list[object] = []
    for entry in entries:
        digest = sha256(entry.value).digest()
        bucket.seal += entry_sum(entry.key, entry.revision, digest)
        rows += (bucket.id, entry.key, entry.revision, digest, entry.value)
    _write_rows(connection, _WRITE_ENTRIES, 5, rows)


def _write_rows(
    connection: sqlite3.Connection, statements: dict[int, str], columns: int, values: list[Any]
) -> None:
    start, left = 0, len(values) // columns
    for rows, statement in statements.items():
        while left >= rows:
            end = start + rows * columns
            connection.execute(statement, values[start:end])
            start, left = end, left - rows
