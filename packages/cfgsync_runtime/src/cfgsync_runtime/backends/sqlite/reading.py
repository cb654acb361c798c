"""Every read is one short transaction on the readers' connection, and gives nothing that its digest does not confirm.

Short, because a reader that stays keeps the write-ahead log from being reused (it grew to 41 MB behind one).
"""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from cfgsync_core import BucketSnapshot, Change, Entry, Gap, Unchanged, Version, digest_entries

from .counters import Bucket, read_bucket
from .failures import NOT_OURS, damaged, in_use
from .sums import history_digest, seal

_decode: Final = msgspec.msgpack.Decoder(dict[str, bytes | bool | None]).decode


class Reader:
    """Everything that only reads. Every call comes from one thread."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path

    def version(self, bucket: str) -> Version:
        with self._translated():
            return read_bucket(self._connection, self._path, bucket).version

    def get(self, bucket: str, key: str) -> Entry | None:
        with self._translated():
            row = self._connection.execute(
                "select value, revision, digest from entry"
                " where bucket = (select id from bucket where name = ?) and key = ?",
                (bucket, key),
            ).fetchone()
        return None if row is None or row[2] is None else self._entry(bucket, key, *row)

    def snapshot(self, bucket: str, known: Version | None) -> BucketSnapshot | Unchanged:
        with self._cut(bucket) as held:
            version = held.version
            if known == version:
                return Unchanged(version)
            rows = self._connection.execute(
                "select key, value, revision, digest from entry"
                " where bucket = ? and digest is not null order by key",
                (held.id,),
            ).fetchall()
        entries = tuple(self._entry(bucket, *row) for row in rows)
        if seal((key, revision, digest) for key, _, revision, digest in rows) != held.seal:
            raise damaged(self._path, f"entries of bucket {bucket!r} do not match its seal")
        return BucketSnapshot(version, entries, digest_entries(version, entries), version.resets(known))

    def changes(self, bucket: str, since: Version) -> Sequence[Change] | Gap:
        with self._cut(bucket) as held:
            version = held.version
            if version.resets(since) or since.revision < held.floor:
                return Gap(version)
            rows = self._connection.execute(
                "select revision, commit_id, at_ms, writes, digest from history"
                " where bucket = ? and revision > ? order by revision",
                (held.id, since.revision),
            ).fetchall()
            if [row[0] for row in rows] != list(range(since.revision + 1, version.revision + 1)):
                raise damaged(self._path, f"the history of bucket {bucket!r} has a hole")
            return [self._change(held, *row) for row in rows]

    def ping(self) -> None:
        with self._translated():
            self._connection.execute("select max(id) from bucket").fetchone()

    def buckets(self) -> list[str]:
        with self._translated():
            return [name for (name,) in self._connection.execute("select name from bucket order by name")]

    def close(self) -> None:
        self._connection.close()

    def _entry(self, bucket: str, key: str, value: bytes | None, revision: int, digest: bytes) -> Entry:
        if value is None or sha256(value).digest() != digest:
            raise damaged(self._path, f"the value of {bucket}/{key} does not match its digest")
        return Entry(key, value, revision)

    def _change(
        self, held: Bucket, revision: int, commit_id: bytes, at_ms: int, body: bytes, digest: bytes
    ) -> Change:
        if history_digest(revision, at_ms, commit_id, body) != digest:
            raise damaged(
                self._path, f"history of bucket {held.name!r}, revision {revision}, does not match its digest"
            )
        told: Mapping[str, bytes | bool | None] = _decode(body)
        writes: dict[str, bytes | None] = {}
        for key, value in told.items():
            if isinstance(value, bool):
                entry = self.get(held.name, key)
                if (
                    entry is None or entry.revision != revision
                ):  # deleting it would have shortened the history
                    raise damaged(self._path, f"{held.name}/{key} of revision {revision} is lost")
                writes[key] = entry.value
            else:
                writes[key] = value
        return Change(revision, str(uuid.UUID(bytes=commit_id)), at_ms, writes)

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
        except NOT_OURS as error:
            raise damaged(self._path, str(error)) from error
