"""What a group of commits does to one bucket: decided in memory from one read under the bucket's lock."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from cfgsync_core import Conflict, Version
from cfgsync_core.store import BLOB, HISTORY_REVISIONS

SLACK: Final = 250
"""History is cut when it is this much too long, so that cutting is rare."""

_encode: Final = msgspec.msgpack.Encoder().encode


class Head(NamedTuple):
    """The last write of a key; `digest` None is a tombstone."""

    revision: int
    digest: bytes | None
    at_ms: int


_ABSENT: Final = Head(0, None, 0)


class Row(NamedTuple):
    """What an entry will be."""

    revision: int
    digest: bytes | None
    value: bytes | None
    at_ms: int


class HistoryRow(NamedTuple):
    """A commit, as its row holds it."""

    revision: int
    commit_id: uuid.UUID
    at_ms: int
    writes: bytes
    digest: bytes


class Counters(msgspec.Struct):
    """A bucket's row. An empty epoch: it was never written. `unmeasured`: bytes of history since they were counted."""

    epoch: str = ""
    revision: int = 0
    floor: int = 0
    at_ms: int = 0
    unmeasured: int = 0


class BucketGroup:
    """The commits of one group to one bucket. `rows`, `history` and `forgotten` are what to write."""

    def __init__(self, name: str, held: Counters, epoch: str, now_ms: int, heads: dict[str, Head]) -> None:
        self.name = name
        self.held = held
        self.is_changed = False
        self.rows: dict[str, Row] = {}
        self.history: list[HistoryRow] = []
        self.forgotten: set[str] = set()
        self.floor_before = held.floor
        self._epoch = held.epoch or epoch
        self._now_ms = max(held.at_ms, now_ms)
        self._heads = heads

    def add(
        self, writes: Mapping[str, bytes | None], expected: Mapping[str, int] | None, commit_id: str
    ) -> Version | Conflict:
        """Decide one commit, given what the store holds and the commits before it in the group."""
        heads, held = self._heads, self.held
        for key, want in (expected or {}).items():
            head = heads.get(key, _ABSENT)
            if (head.digest is not None) if want == 0 else (head.revision != want):
                return Conflict(self.name, key, want, head.revision)
        revision = held.revision + 1
        changed: dict[str, bytes | bool | None] = {}
        for key, value in writes.items():
            head = heads.get(key, _ABSENT)
            digest = None if value is None else sha256(value).digest()
            if digest == head.digest:
                continue
            is_blob = key.startswith(BLOB)
            if is_blob and head.digest is not None:
                held.floor = max(
                    held.floor, head.revision
                )  # earlier history cannot return that blob any more
            if is_blob and value is None:
                del heads[key]
                self.rows.pop(key, None)
                self.forgotten.add(key)
            else:
                heads[key] = Head(revision, digest, self._now_ms)
                self.rows[key] = Row(revision, digest, value, self._now_ms)
                self.forgotten.discard(key)
            changed[key] = True if is_blob and value is not None else value
        if changed:
            self.is_changed = True
            held.epoch, held.revision, held.at_ms = self._epoch, revision, self._now_ms
            body = _encode(changed)
            held.unmeasured += len(body)
            name = uuid.UUID(commit_id)
            sealed = history_digest(revision, self._now_ms, name, body)
            self.history.append(HistoryRow(revision, name, self._now_ms, body, sealed))
            if revision - held.floor >= HISTORY_REVISIONS + SLACK:
                held.floor = revision - HISTORY_REVISIONS
        return Version(held.epoch, held.revision)


def history_digest(revision: int, at_ms: int, commit_id: uuid.UUID, writes: bytes) -> bytes:
    """What makes damage of a row of history visible."""
    return sha256(b"%d %d %b %b" % (revision, at_ms, commit_id.bytes, writes)).digest()
