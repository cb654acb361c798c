"""Older schemas become the newest one: in place when a server opens the file, in a copy in memory for a reader.

| schema | since | differs |
| --- | --- | --- |
| 1 | 2026-11-21 | entries written by their commit: no `folded` in a bucket's row |
| 1 | ADR 0007 | `folded`, under the number of the schema before |
| 2 | ADR 0035 | the row `pulse` |
"""

from __future__ import annotations

import contextlib
import sqlite3
from zlib import crc32

from ..counters import Bucket
from ..failures import damaged
from .file import PULSE, SCHEMA_VERSION


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """All in one transaction. Raises `StoreDamaged`, `sqlite3.Error`; then the file is as it was."""
    connection.execute("begin immediate")
    try:
        columns = [row[1] for row in connection.execute("pragma table_info(bucket)")]
        if "folded" not in columns:
            _add_folded(connection, path)
        for statement in PULSE:
            connection.execute(statement)
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
    for number, name, epoch, revision, at_ms, floor, seal, crc in rows:
        if crc != crc32(f"{name}\0{epoch}\0{revision}\0{at_ms}\0{floor}\0{seal}".encode()):
            raise damaged(path, f"the row of bucket {name!r} does not match its checksum")
        bucket = Bucket(name, number, epoch, revision, at_ms, floor, revision, seal)
        connection.execute(
            "update bucket set (epoch, revision, at_ms, floor, folded, seal, crc) = (?, ?, ?, ?, ?, ?, ?) where id = ?",
            (*bucket.row(), number),
        )
