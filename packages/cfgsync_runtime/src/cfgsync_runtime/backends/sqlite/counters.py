"""The row of a bucket: its counter and what belongs to it, checked whenever it is read."""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from cfgsync_core import Version
from cfgsync_core.store import HISTORY_BYTES, Move

from .failures import damaged
from .sums import bucket_sum

_SELECT = "select id, name, epoch, revision, at_ms, floor, folded, seal, crc from bucket"


UNMEASURED_BYTES: Final = HISTORY_BYTES // 8
"""The size of a bucket's history is measured again when so much was added."""


class Bucket(msgspec.Struct):
    """One bucket's counters. Its epoch is empty until the first commit. `unmeasured_bytes` is not kept in the file."""

    name: str
    id: int = 0
    epoch: str = ""
    revision: int = 0
    at_ms: int = 0
    floor: int = 0
    folded: int = 0
    seal: int = 0
    unmeasured_bytes: int = UNMEASURED_BYTES  # not known after the start, so the first commit measures

    @property
    def version(self) -> Version:
        return Version(self.epoch, self.revision)

    def row(self) -> tuple[str, int, int, int, int, int, int]:
        numbers = (self.epoch, self.revision, self.at_ms, self.floor, self.folded, self.seal)
        return *numbers, bucket_sum(self.name, *numbers)


def read_bucket(connection: sqlite3.Connection, path: str, name: str) -> Bucket:
    """Raises `StoreDamaged`. A bucket that the index does not have is looked for in the table, too: a flipped bit in the
    index must not look like a bucket that was never written."""
    row = connection.execute(f"{_SELECT} where name = ?", (name,)).fetchone()
    if row is not None:
        return _checked(path, row)
    if connection.execute("select 1 from bucket not indexed where name = ?", (name,)).fetchone():
        raise damaged(path, f"its index of buckets has lost {name!r}")
    return Bucket(name)


def read_buckets(connection: sqlite3.Connection, path: str) -> dict[str, Bucket]:
    """Every bucket, sorted by name. Raises `StoreDamaged`, also when the table and its index differ."""
    rows = sorted(connection.execute(f"{_SELECT} not indexed").fetchall(), key=lambda row: row[1])
    index = connection.execute("select name from bucket indexed by sqlite_autoindex_bucket_1 order by name")
    if [row[1] for row in rows] != [name for (name,) in index.fetchall()]:
        raise damaged(path, "its table of buckets and the index of it differ")
    return {row[1]: _checked(path, row) for row in rows}


def insert_bucket(connection: sqlite3.Connection, bucket: Bucket) -> None:
    connection.execute(
        "insert into bucket (id, name, epoch, revision, at_ms, floor, folded, seal, crc)"
        " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (bucket.id, bucket.name, *bucket.row()),
    )


def update_bucket(connection: sqlite3.Connection, path: str, bucket: Bucket, held: Version) -> None:
    """Write the row, which must be at `held`. Raises `StoreDamaged` when it is not: the lock keeps other servers out, so
    another program wrote to the database."""
    moved = connection.execute(
        "update bucket set (epoch, revision, at_ms, floor, folded, seal, crc) = (?, ?, ?, ?, ?, ?, ?)"
        " where id = ? and epoch = ? and revision = ?",
        (*bucket.row(), bucket.id, *held),
    )
    if moved.rowcount != 1:
        raise damaged(path, f"bucket {bucket.name!r} is not at revision {held.revision} any more")


def _checked(path: str, row: tuple[int, str, str, int, int, int, int, int, int]) -> Bucket:
    bucket = Bucket(row[1], row[0], *row[2:8])
    if bucket.row()[-1] != row[8]:
        raise damaged(path, f"the row of bucket {bucket.name!r} does not match its checksum")
    return bucket


def read_move(connection: sqlite3.Connection, path: str) -> Move:
    """Where the store is on its way to another one. Raises `StoreDamaged`."""
    row = connection.execute("select state, peer, epoch from move where id = 1").fetchone()
    if row is None or row[0] not in ("", "arriving", "leaving", "moved", "backup"):
        raise damaged(path, "its row move is lost")
    return Move(*row)
