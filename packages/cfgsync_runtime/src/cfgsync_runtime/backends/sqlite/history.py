"""The history is the log: contiguous, each row checked by its digest, and enough to compute what the entries will be."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from cfgsync_core.store import HISTORY_BYTES

from .counters import UNMEASURED_BYTES, Bucket
from .failures import damaged
from .rows import Row
from .sums import history_digest

_decode: Final = msgspec.msgpack.Decoder(dict[str, bytes | bool | None]).decode


class HistoryRow(NamedTuple):
    """One commit, as its row holds it. True instead of a value is a blob, whose live entry has the content."""

    revision: int
    commit_id: bytes
    at_ms: int
    writes: Mapping[str, bytes | bool | None]


def read_history(connection: sqlite3.Connection, path: str, held: Bucket, since: int) -> list[HistoryRow]:
    """Every commit after the revision `since`, in order. Raises `StoreDamaged`."""
    rows = connection.execute(
        "select revision, commit_id, at_ms, writes, digest from history"
        " where bucket = ? and revision > ? order by revision",
        (held.id, since),
    ).fetchall()
    if [row[0] for row in rows] != list(range(since + 1, held.revision + 1)):
        raise damaged(path, f"the history of bucket {held.name!r} has a hole")
    history = []
    for revision, commit_id, at_ms, body, digest in rows:
        if history_digest(revision, at_ms, commit_id, body) != digest:
            raise damaged(
                path, f"history of bucket {held.name!r}, revision {revision}, does not match its digest"
            )
        history.append(HistoryRow(revision, commit_id, at_ms, _decode(body)))
    return history


def floor_by_bytes(connection: sqlite3.Connection, held: Bucket) -> int:
    """The floor that leaves room for `UNMEASURED_BYTES` more in `HISTORY_BYTES`; at least the one that it has."""
    kept, sizes = HISTORY_BYTES - UNMEASURED_BYTES, "select revision, length(writes) from history"
    rows = connection.execute(
        f"{sizes} where bucket = ? and revision > ? order by revision desc", (held.id, held.floor)
    )
    for revision, size in rows:
        kept -= size
        if kept < 0:
            return int(revision)
    return held.floor


def replay(connection: sqlite3.Connection, path: str, held: Bucket, since: int) -> dict[str, Row]:
    """The newest state of each key that a commit after `since` wrote. Raises `StoreDamaged`."""
    rows: dict[str, Row] = {}
    for row in read_history(connection, path, held, since) if since < held.revision else ():
        for key, value in row.writes.items():
            if isinstance(value, bool):  # its commit would have written its entry, and all before it
                raise damaged(path, f"{held.name}/{key} of revision {row.revision} is lost")
            rows[key] = (row.revision, None if value is None else sha256(value).digest(), value, row.at_ms)
    return rows
