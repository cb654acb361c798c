"""The history is the log: contiguous, each row confirmed by its digest, and enough to say what the entries will be."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from .counters import Bucket
from .failures import damaged
from .rows import Row
from .sums import history_digest

_decode: Final = msgspec.msgpack.Decoder(dict[str, bytes | bool | None]).decode


class Told(NamedTuple):
    """One commit as its row tells it: True stands for a blob, which its live entry holds."""

    revision: int
    commit_id: bytes
    at_ms: int
    writes: Mapping[str, bytes | bool | None]


def read_history(connection: sqlite3.Connection, path: str, held: Bucket, since: int) -> list[Told]:
    """Every commit after the revision `since`, in order. Raises `StoreDamaged`."""
    rows = connection.execute(
        "select revision, commit_id, at_ms, writes, digest from history"
        " where bucket = ? and revision > ? order by revision",
        (held.id, since),
    ).fetchall()
    if [row[0] for row in rows] != list(range(since + 1, held.revision + 1)):
        raise damaged(path, f"the history of bucket {held.name!r} has a hole")
    told = []
    for revision, commit_id, at_ms, body, digest in rows:
        if history_digest(revision, at_ms, commit_id, body) != digest:
            raise damaged(
                path, f"history of bucket {held.name!r}, revision {revision}, does not match its digest"
            )
        told.append(Told(revision, commit_id, at_ms, _decode(body)))
    return told


def replay(connection: sqlite3.Connection, path: str, held: Bucket, since: int) -> dict[str, Row]:
    """What the commits after `since` leave of each key that they wrote. Raises `StoreDamaged`."""
    rows: dict[str, Row] = {}
    for told in read_history(connection, path, held, since) if since < held.revision else ():
        for key, value in told.writes.items():
            if isinstance(value, bool):  # its commit would have written its entry, and all before it
                raise damaged(path, f"{held.name}/{key} of revision {told.revision} is lost")
            rows[key] = (told.revision, None if value is None else sha256(value).digest(), value)
    return rows
