"""A store of revisioned buckets, in five verbs. Everything else reads it; nothing overrides it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

import msgspec

from .epoch import epoch_ms

BLOB = "blob/"
"""A key with this prefix holds content named by its own SHA-256. It is stored once, and history names it without a copy.
Deleting it therefore cuts the bucket's history after the commit that wrote it (ADR 0004). It leaves no tombstone: content
named by its digest is the same when it returns."""

HISTORY_REVISIONS = 1_000
"""How many revisions of a bucket `changes` returns, unless a deleted blob or `HISTORY_BYTES` has cut its history."""

HISTORY_BYTES = 64 * 1024 * 1024
"""How much of a bucket's history is kept: the values that its commits wrote, blobs not counted."""


class Version(NamedTuple):
    """A committed state of a bucket. Revisions compare only within one epoch; an older epoch is stale."""

    epoch: str
    revision: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.revision}"

    @classmethod
    def parse(cls, text: str) -> Version:
        """The version in `<epoch>.<revision>`. Raises `ValueError`."""
        epoch, dot, revision = text.rpartition(".")
        if not dot or not revision.isascii() or not revision.isdigit() or len(revision) > 18:
            raise ValueError(f"{text[:80]!r} is not <epoch>.<revision>")
        return cls(epoch, int(revision))

    def resets(self, known: Version | None) -> bool:
        """True when a reader that knows `known` cannot have read it from the history of this version: `known` is of
        another epoch or ahead. A reader that knows nothing yet is never reset."""
        return (
            known is not None
            and known != NEVER
            and (known.epoch != self.epoch or known.revision > self.revision)
        )


NEVER = Version("", 0)
"""The version of a bucket that was never written."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One live key: its value, the revision that wrote it, and when (milliseconds since 1970, by the server's clock).

    Times never go backwards within a bucket. 0 is an unknown time.
    """

    key: str
    value: bytes
    revision: int
    at_ms: int = 0


class BucketSnapshot(msgspec.Struct, frozen=True):
    """One cut: exactly the live entries whose revision is ≤ `version.revision`, sorted by key.

    `digest` is SHA-256 over them (see `digest_entries`); a reader that loads a snapshot checks it. `reset` is True when
    the reader's `known` was of another epoch or ahead of the store: history was lost, and the reader must load everything
    again.
    """

    version: Version
    entries: tuple[Entry, ...]
    digest: str
    reset: bool = False

    def is_whole(self) -> bool:
        """True when the digest is that of the entries and none is newer than the version (INV-9)."""
        return self.digest == digest_entries(self.version, self.entries) and all(
            entry.revision <= self.version.revision for entry in self.entries
        )


class Unchanged(msgspec.Struct, frozen=True):
    """The bucket is exactly at the version that the reader knows."""

    version: Version


class Change(msgspec.Struct, frozen=True):
    """One commit in a bucket's history. `writes` maps each key to its new value, None where it was deleted."""

    revision: int
    commit_id: str
    at_ms: int
    writes: Mapping[str, bytes | None]


class Gap(msgspec.Struct, frozen=True):
    """The store does not hold the history that was asked for: rebuild from a snapshot of at least `version`."""

    version: Version


def digest_entries(
    version: Version, entries: Sequence[Entry], value_digests: Iterable[bytes] | None = None
) -> str:
    """Lower-hex SHA-256 over the version and, for each entry, key NUL revision NUL value digest LF.

    `value_digests` are those of the values, in order, from an engine that has just checked them: hashing 40 MB twice
    takes a tenth of a server's start.
    """
    if value_digests is None:
        value_digests = (sha256(entry.value).digest() for entry in entries)
    lines = [
        f"{entry.key}\0{entry.revision}\0{digest.hex()}\n"
        for entry, digest in zip(entries, value_digests, strict=True)
    ]
    return sha256(f"{version}\n{''.join(lines)}".encode()).hexdigest()


def check_writes(bucket: str, writes: Mapping[str, bytes | None]) -> None:
    """Raise `ValueError` for a bucket or key that is empty, holds a NUL or is not UTF-8, `TypeError` for a value
    that is not bytes. Each commit is checked alone, so that an invalid one cannot fail the others of its group."""
    _check_word(bucket)
    for key, value in writes.items():
        _check_word(key)
        if value is not None and type(value) is not bytes:
            raise TypeError(f"{bucket}/{key}: a value is bytes or None, not {type(value).__name__}")


def check_load(bucket: str, version: Version, entries: Sequence[Entry]) -> None:
    """Raise `ValueError` for entries that cannot be the whole of a bucket at `version`."""
    epoch_ms(version.epoch)
    check_writes(bucket, {entry.key: entry.value for entry in entries})
    if len({entry.key for entry in entries}) != len(entries):
        raise ValueError(f"bucket {bucket!r}: duplicate key")
    for entry in entries:
        if not 0 < entry.revision <= version.revision:
            raise ValueError(
                f"{bucket}/{entry.key}: revision {entry.revision} is not in 1..{version.revision}"
            )


def _check_word(word: str) -> None:
    if not word or "\0" in word:
        raise ValueError(f"{word[:80]!r} cannot name a bucket or key")
    if not word.isascii():
        word.encode()  # UnicodeEncodeError, a ValueError, for half a surrogate pair


class RevisionedStore(Protocol):
    """Buckets of keys with one revision counter each. Every promise below is checked by the contract suite.

    Every verb raises `Unavailable` when the engine does not answer, never an empty answer instead.
    """

    async def version(self, bucket: str) -> Version:
        """The last committed state; `NEVER` for a bucket that was never written."""

    async def get(self, bucket: str, key: str) -> Entry | None:
        """The live entry of a key, or None when it was never written or is deleted."""

    async def snapshot(self, bucket: str, known: Version | None = None) -> BucketSnapshot | Unchanged:
        """One cut of the bucket; `Unchanged` exactly when `known` is its current version."""

    async def commit(
        self, bucket: str, writes: Mapping[str, bytes | None], expected: Mapping[str, int] | None = None
    ) -> Version:
        """Write all (None deletes) and make the next revision, or do nothing. Durable on return.

        `expected` maps keys to the revision that last wrote or deleted them; 0 means no live value. A commit that
        changes nothing makes no revision and returns the current version. Raises `Conflict`; `StoreFull`;
        `OutcomeUnknown`. A cancelled call goes on to its end. Calls of one process take effect in the order in
        which they were made, so a commit of nothing returns after those before it have ended.
        """

    async def changes(self, bucket: str, since: Version) -> Sequence[Change] | Gap:
        """Every commit after `since` in order, contiguous; or an honest `Gap`.

        A store keeps the last `HISTORY_REVISIONS` commits of a bucket, of which at most `HISTORY_BYTES`.
        """


class StoreAdmin(Protocol):
    """The operator's side of a store. Features use the five verbs only."""

    async def ping(self) -> None:
        """Return when the engine reads and writes now; raise `Unavailable` when it does not, after 2 s at most.

        No cache may answer: an engine on a disk makes a small commit outside every bucket when none succeeded for 5 s.
        """

    async def buckets(self) -> Sequence[str]:
        """The buckets that exist, sorted."""

    def export(self, bucket: str) -> AsyncIterator[Entry]:
        """The live entries of one cut, in key order."""

    async def load(self, bucket: str, version: Version, entries: Sequence[Entry]) -> None:
        """Make an absent bucket hold exactly these entries at this version."""

    async def drop(self, bucket: str) -> Version:
        """Delete every key of a bucket, and its history, in one commit. The bucket gets a new epoch and its revision counts
        on, so a reader that knows an older version loads everything again. `NEVER` for a bucket that was never
        written."""

    async def new_epoch(self, after: str | None = None) -> Mapping[str, Version]:
        """Give every bucket a new epoch, later than every epoch in the store and than `after`; revisions stay."""


class Engine(RevisionedStore, StoreAdmin, Protocol):
    """One object that is both, such as `MemoryStore`."""
