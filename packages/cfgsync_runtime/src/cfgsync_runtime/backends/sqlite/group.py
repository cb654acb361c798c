"""What a group of commits does to one bucket: decided in memory after one read, then written in a few statements.

The number of statements grows with the buckets of a group, not with its commits: one row holds all that is read. A group
writes history, and entries only where history holds no copy (blobs) or a second write would be expensive (large values).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Final

import msgspec

from cfgsync_core import Conflict, Version
from cfgsync_core.store import BLOB, HISTORY_REVISIONS

from .counters import UNMEASURED_BYTES, Bucket, insert_bucket, update_bucket
from .failures import damaged
from .folding import Unfolded, trim, value_bytes
from .history import floor_by_bytes
from .rows import Row, write_entries, write_history
from .sums import entry_sum, history_digest

SLACK: Final = 250
"""History is cut when it is this much too long, so that cutting is rare."""

LARGE_BYTES: Final = 64 * 1024
"""A group with more bytes of values than this in a bucket writes its entries itself."""

_PAGE_BYTES: Final = 4096
_HISTORY_ROW_BYTES: Final = 128
_ABSENT: Final = (0, None, 0)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_heads: Final = msgspec.json.Decoder(list[tuple[str, int, str, int]]).decode

_HEADS: Final = (
    "select json_group_array(json_array(key, revision, hex(digest), at_ms)) from entry"
    " where bucket = ? and key in (select value from json_each(?))"
)
_FORGET: Final = "delete from entry where bucket = ? and key in (select value from json_each(?))"


class BucketGroup:
    """The commits of one group to one bucket. `add` decides in memory; `write` writes what was decided."""

    def __init__(self, bucket: Bucket, epoch: str, now_ms: int, unfolded: Unfolded | None) -> None:
        self.bucket = bucket  # a copy: the group may fail
        self._unfolded = unfolded or Unfolded(0)
        self._held = bucket.version
        self._epoch = bucket.epoch or epoch  # a bucket gets its epoch with its first change
        self._at_ms = max(bucket.at_ms, now_ms)
        self._heads: dict[str, tuple[int, bytes | None, int]] = {}
        self._rows: dict[str, Row] = {}
        self._value_bytes = 0
        self._blobs = False
        self._forgotten: set[str] = set()
        self._history: list[object] = []

    def read_heads(self, connection: sqlite3.Connection, path: str, keys: Collection[str]) -> None:
        """Read revision and digest of each of `keys`, once for all commits of the group."""
        unfolded, missing = self._unfolded.rows, []
        for key in keys:
            row = unfolded.get(key)
            if row is None:
                missing.append(key)
            else:
                self._heads[key] = (row[0], row[1], row[3])
        if missing and not self.is_new:
            names = msgspec.json.encode(missing).decode()
            found = connection.execute(_HEADS, (self.bucket.id, names)).fetchone()[0]
            try:
                heads = _decode_heads(found)
            except msgspec.DecodeError as error:
                raise damaged(path, f"an entry of bucket {self.bucket.name!r}: {error}") from error
            for key, at, digest, ms in heads:
                self._heads[key] = (at, bytes.fromhex(digest) or None, ms)

    @property
    def is_new(self) -> bool:
        return not self._held.epoch

    @property
    def changed(self) -> bool:
        return bool(self._history)

    def add(
        self, writes: Mapping[str, bytes | None], expected: Mapping[str, int] | None, commit_id: int
    ) -> Version | Conflict:
        """Decide one commit, given what the store holds and the commits before it in the group."""
        heads, bucket = self._heads, self.bucket
        if expected:
            for key, want in expected.items():
                at, digest, _ = heads.get(key, _ABSENT)
                if (digest is not None) if want == 0 else (at != want):
                    return Conflict(bucket.name, key, want, at)
        revision = bucket.revision + 1
        changed: dict[str, bytes | bool | None] = {}
        for key, value in writes.items():
            at, digest, ms = heads.get(key, _ABSENT)
            new = None if value is None else sha256(value).digest()
            if new == digest:
                continue
            blob = key.startswith(BLOB)
            if digest is not None:
                bucket.seal -= entry_sum(key, at, digest, ms)
                if blob:
                    bucket.floor = max(
                        bucket.floor, at
                    )  # the earlier history cannot return that blob any more
            if new is not None:
                bucket.seal += entry_sum(key, revision, new, self._at_ms)
            if blob:
                self._blobs = True
                self._forgotten.discard(key)
            if blob and new is None:
                del heads[key]
                self._rows.pop(key, None)
                self._forgotten.add(key)
            else:
                heads[key] = (revision, new, self._at_ms)
                self._rows[key] = (revision, new, value, self._at_ms)
            changed[key] = True if blob and new is not None else value
        if changed:
            bucket.epoch, bucket.revision = self._epoch, revision
            body = _encode(changed)
            bucket.unmeasured_bytes += len(body)
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
        """Write what was decided, and return about how many bytes the write-ahead log grew."""
        bucket = self.bucket
        bucket.at_ms = self._at_ms
        if bucket.revision - bucket.floor >= HISTORY_REVISIONS + SLACK:
            bucket.floor = bucket.revision - HISTORY_REVISIONS
        write_history(connection, self._history)
        if bucket.unmeasured_bytes >= UNMEASURED_BYTES:
            bucket.floor, bucket.unmeasured_bytes = floor_by_bytes(connection, bucket), 0
        self._value_bytes = written_bytes = value_bytes(self._rows)
        folds = self._blobs or written_bytes > LARGE_BYTES
        if folds:
            bucket.folded = bucket.revision
        if self.is_new:
            insert_bucket(connection, bucket)
        else:
            update_bucket(connection, path, bucket, self._held)
        if folds:
            rows = self._unfolded.rows | self._rows
            if self._forgotten:
                connection.execute(_FORGET, (bucket.id, msgspec.json.encode(list(self._forgotten)).decode()))
            write_entries(connection, bucket.id, rows)
            trim(connection, bucket)
            written_bytes = 2 * written_bytes + _PAGE_BYTES * len(rows)
        return written_bytes + _HISTORY_ROW_BYTES * len(self._history) // 6

    def unfolded(self) -> Unfolded:
        """What is not in the bucket's entries. Call it after COMMIT has returned."""
        bucket = self.bucket
        if bucket.folded == bucket.revision:
            return Unfolded(bucket.folded)
        self._unfolded.add(self._rows, bucket.revision, self._value_bytes)
        return self._unfolded
