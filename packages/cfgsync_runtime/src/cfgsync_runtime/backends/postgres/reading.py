"""The verbs that read, each in one statement or one snapshot of the database, with every value checked by its digest."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from cfgsync_core import NEVER, BucketSnapshot, Change, Entry, Gap, Unchanged, Version
from cfgsync_core.store import digest_entries

from .address import Address
from .failures import damaged
from .group import history_digest

if TYPE_CHECKING:
    import asyncpg

_decode: Final = msgspec.msgpack.Decoder(dict[str, bytes | bool | None]).decode


async def read_version(session: asyncpg.Connection, at: Address, bucket: str) -> Version:
    row = await session.fetchrow(
        f"select epoch, revision from {at.schema}.bucket where name = $1 and epoch <> ''", bucket
    )
    return NEVER if row is None else Version(*row)


async def read_entry(session: asyncpg.Connection, at: Address, bucket: str, key: str) -> Entry | None:
    row = await session.fetchrow(
        f"select value, revision, at_ms, digest from {at.schema}.entry"
        " where bucket = $1 and key = $2 and digest is not null",
        bucket,
        key,
    )
    return None if row is None else _entry(at, bucket, key, *row)


async def read_snapshot(
    session: asyncpg.Connection, at: Address, bucket: str, known: Version | None
) -> BucketSnapshot | Unchanged:
    if known is not None and known == await read_version(session, at, bucket):
        return Unchanged(known)
    rows = await session.fetch(
        f"select b.epoch, b.revision, e.key, e.value, e.revision, e.at_ms, e.digest from {at.schema}.bucket b"
        f" left join {at.schema}.entry e on e.bucket = b.name and e.digest is not null"
        " where b.name = $1 and b.epoch <> '' order by e.key",
        bucket,
    )
    version = Version(rows[0][0], rows[0][1]) if rows else NEVER
    rows = [row for row in rows if row[2] is not None]
    entries = tuple([_entry(at, bucket, *row[2:]) for row in rows])
    whole = digest_entries(version, entries, [row[6] for row in rows])
    return BucketSnapshot(version, entries, whole, version.resets(known))


async def read_changes(
    session: asyncpg.Connection, at: Address, bucket: str, since: Version
) -> Sequence[Change] | Gap:
    found = await _changes(session, at, bucket, since, has_blobs=False)
    if found is None:
        async with session.transaction(isolation="repeatable_read", readonly=True):
            found = await _changes(session, at, bucket, since, has_blobs=True)
    assert found is not None
    return found


async def _changes(
    session: asyncpg.Connection, at: Address, bucket: str, since: Version, *, has_blobs: bool
) -> Sequence[Change] | Gap | None:
    """In one statement; None without `has_blobs` when blobs are among them, which are read one by one, from one snapshot."""
    rows = await session.fetch(
        "select b.epoch, b.revision, b.floor, h.revision, h.commit_id, h.at_ms, h.writes, h.digest"
        f" from {at.schema}.bucket b left join {at.schema}.history h"
        " on h.bucket = b.name and h.revision > $2 and b.floor <= $2 and (b.epoch = $3 or $3 = '')"
        " where b.name = $1 and b.epoch <> '' order by h.revision",
        bucket,
        since.revision,
        since.epoch,
    )
    version, floor = (Version(rows[0][0], rows[0][1]), rows[0][2]) if rows else (NEVER, 0)
    if version.resets(since) or since.revision < floor:
        return Gap(version)
    rows = [row[3:] for row in rows if row[3] is not None]
    if [row[0] for row in rows] != list(range(since.revision + 1, version.revision + 1)):
        raise damaged(at.shown, f"the history of bucket {bucket!r} has a hole")
    changes = []
    for revision, commit_id, at_ms, body, digest in rows:
        name = uuid.UUID(bytes=commit_id.bytes)
        if history_digest(revision, at_ms, name, body) != digest:
            raise damaged(
                at.shown, f"the history of bucket {bucket!r}, revision {revision}, does not match its digest"
            )
        writes: dict[str, bytes | None] = {}
        for key, value in _decode(body).items():
            if isinstance(value, bool):  # a blob is in its entry only
                if not has_blobs:
                    return None
                blob = await read_entry(session, at, bucket, key)
                if blob is None or blob.revision != revision:
                    raise damaged(at.shown, f"{bucket}/{key} of revision {revision} is lost")
                value = blob.value
            writes[key] = value
        changes.append(Change(revision, str(name), at_ms, writes))
    return changes


async def read_buckets(session: asyncpg.Connection, at: Address) -> list[str]:
    rows = await session.fetch(f"select name from {at.schema}.bucket where epoch <> '' order by name")
    return [row[0] for row in rows]


def _entry(
    at: Address, bucket: str, key: str, value: bytes | None, revision: int, at_ms: int, digest: bytes
) -> Entry:
    if value is None or sha256(value).digest() != digest:
        raise damaged(at.shown, f"the value of {bucket}/{key} does not match its digest")
    return Entry(key, value, revision, at_ms)
