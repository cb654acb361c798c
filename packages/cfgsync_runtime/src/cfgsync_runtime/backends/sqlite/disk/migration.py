"""Older schemas become the newest one: in place when a server opens the file, in a copy in memory for a reader.

| schema | since | differs |
| --- | --- | --- |
| 1 | 2026-11-21 | entries written by their commit: no `folded` in a bucket's row |
| 1 | ADR 0007 | `folded`, under the number of the schema before |
| 2 | ADR 0035 | the row `pulse` |
| 3 | config documents | an entry has the time of its commit, and a seal is over times too |
| 4 | `store copy` | the row `move` |
| 5 | ADR 0050 | history has rowids |
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Final
from zlib import crc32

import msgspec

from ..counters import Bucket, read_buckets, update_bucket
from ..failures import damaged
from ..history import replay
from ..sums import seal
from .file import HISTORY, MOVE, PULSE, SCHEMA_VERSION

_OLD_HISTORY: Final = ("alter table history rename to old_history",)
_COLUMNS: Final = "bucket, revision, commit_id, at_ms, writes, digest"
_NEW_HISTORY: Final = (
    f"insert into history ({_COLUMNS}) select {_COLUMNS} from old_history order by bucket, revision",
    "drop table old_history",
)
_LIVE: Final = "select key, revision, digest, at_ms from entry where bucket = ? and digest is not null"


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """All in one transaction. Raises `StoreDamaged`, `sqlite3.Error`; then the file is as it was."""
    connection.execute("begin immediate")
    try:
        columns = [row[1] for row in connection.execute("pragma table_info(bucket)")]
        if "folded" not in columns:
            _add_folded(connection, path)
        schema = connection.execute("pragma user_version").fetchone()[0]
        for since, statements in ((2, PULSE), (4, MOVE), (5, _OLD_HISTORY + HISTORY + _NEW_HISTORY)):
            for statement in statements if schema < since else ():
                connection.execute(statement)
        if schema < 3:
            _add_times(connection, path)
        connection.execute(f"pragma user_version={SCHEMA_VERSION}")
        connection.execute("commit")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("rollback")
        raise


def migrated_copy(connection: sqlite3.Connection, path: str) -> sqlite3.Connection:
    """The content of an older store in memory, as the newest schema."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        connection.backup(copy)
        migrate(copy, path)
    except BaseException:
        copy.close()
        raise
    return copy


def _add_folded(connection: sqlite3.Connection, path: str) -> None:
    rows = connection.execute(
        "select id, name, epoch, revision, at_ms, floor, seal, crc from bucket"
    ).fetchall()
    connection.execute("alter table bucket add column folded integer not null default 0")
    for number, *numbers, crc in rows:
        name, epoch, revision, at_ms, floor, of_entries = numbers
        if crc != crc32("\0".join(map(str, numbers)).encode()):
            raise damaged(path, f"the row of bucket {name!r} does not match its checksum")
        bucket = Bucket(name, number, epoch, revision, at_ms, floor, revision, of_entries)
        update_bucket(connection, path, bucket, bucket.version)


def _add_times(connection: sqlite3.Connection, path: str) -> None:
    """The time of an entry is its commit's where history has it, else that of the oldest commit that history has: a time
    by which it was there."""
    connection.execute("alter table entry add column at_ms integer not null default 0")
    connection.execute(
        "update entry set at_ms = coalesce("
        "(select at_ms from history where bucket = entry.bucket and revision >= entry.revision order by revision limit 1),"
        " (select at_ms from bucket where id = entry.bucket))"
    )
    for bucket in read_buckets(connection, path).values():
        live = {row[0]: row for row in connection.execute(_LIVE, (bucket.id,)).fetchall()}
        for key, (at, digest, _, ms) in replay(connection, path, bucket, bucket.folded).items():
            live.pop(key, None)
            if digest is not None:
                live[key] = (key, at, digest, ms)
        if bucket.seal != sum(
            crc32(digest, crc32(f"{key}\0{at}".encode())) for key, at, digest, _ in live.values()
        ):
            raise damaged(path, f"entries of bucket {bucket.name!r} do not match its seal")
        moved = msgspec.structs.replace(bucket, seal=seal(live.values()))
        update_bucket(connection, path, moved, bucket.version)
