"""Checksums that make damage visible: SQLite's own integrity check missed 71 of 100 flipped bits.

Each value and each history row has its SHA-256; the `seal` of a bucket is the sum of one checksum for each live entry
(its key, revision, time and digest), so a lost, added or renamed entry is detected, too; and the bucket's row has a checksum.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from zlib import crc32


def entry_sum(key: str, revision: int, digest: bytes, at_ms: int) -> int:
    return crc32(digest, crc32(f"{key}\0{revision}\0{at_ms}".encode()))


def seal(entries: Iterable[tuple[str, int, bytes, int]]) -> int:
    """The sum over all live entries. A commit adds what it writes and subtracts what it replaces."""
    # `entry_sum` written out: a start does this for every entry, twice
    return sum([crc32(digest, crc32(f"{key}\0{at}\0{ms}".encode())) for key, at, digest, ms in entries])


def bucket_sum(name: str, epoch: str, revision: int, at_ms: int, floor: int, folded: int, seal: int) -> int:
    return crc32(f"{name}\0{epoch}\0{revision}\0{at_ms}\0{floor}\0{folded}\0{seal}".encode())


def history_digest(revision: int, at_ms: int, commit_id: bytes, writes: bytes) -> bytes:
    return sha256(b"%d %d %b %b" % (revision, at_ms, commit_id, writes)).digest()
