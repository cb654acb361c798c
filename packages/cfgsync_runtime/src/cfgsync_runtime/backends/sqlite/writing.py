"""The one writer: a group of commits is one transaction, each with a revision of its own, and durable after COMMIT."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final, TypeAlias, TypeVar

import msgspec

from cfgsync_core import NEVER, CfgsyncError, Entry, StoreRefused, Unavailable, Version
from cfgsync_core.store import Move, mint_epoch, uuid7

from ...errors import again
from .counters import Bucket, insert_bucket, read_buckets, read_move, update_bucket
from .failures import damaged
from .folding import Unfolded, UnfoldedBuckets, check_entries, fold, value_bytes
from .group import BucketGroup
from .history import replay
from .rows import write_entries
from .sums import seal
from .transactions import Transactions

_PAGE_BYTES: Final = 4096

_BUCKETS_OF_ENTRIES: Final = """
with recursive found(id) as (
    select min(bucket) from entry
    union all
    select (select min(bucket) from entry where bucket > found.id) from found where found.id is not null
) select id from found where id is not null"""

Outcome: TypeAlias = "Version | CfgsyncError"
T = TypeVar("T")


class PendingCommit(msgspec.Struct, eq=False):
    """One commit that waits for its group. `answer` is set on the event loop, never here."""

    bucket: str
    writes: Mapping[str, bytes | None]
    expected: Mapping[str, int] | None
    answer: asyncio.Future[Version]


class Writer:
    """Everything that writes to the database. Every call comes from one thread, so nothing here is locked."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        clock: Callable[[], int],
        *,
        mark: Callable[[int], None],
        probe: Callable[[], None],
        is_in_place: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._path = path
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._move = Move()
        self.unfolded = UnfoldedBuckets()
        self.transactions = Transactions(connection, path, mark=mark, probe=probe, is_in_place=is_in_place)

    def load_counters(self) -> None:
        """Read the counters, which only this object changes from now on, and the commits that the last server did not
        fold. The entries of a bucket are checked when it is used first: a start reads every one of them, and need not twice."""
        self._move = read_move(self._connection, self._path)
        self._buckets = read_buckets(self._connection, self._path)
        for name, bucket in self._buckets.items():
            unfolded = Unfolded(bucket.folded)
            rows = replay(self._connection, self._path, bucket, bucket.folded)
            unfolded.add(rows, bucket.revision, value_bytes(rows))
            self.unfolded.put(name, unfolded)
        found = {number for (number,) in self._connection.execute(_BUCKETS_OF_ENTRIES)}
        if found - {bucket.id for bucket in self._buckets.values()}:
            raise damaged(self._path, "it has entries of a bucket that is lost")

    def _check(self, name: str) -> None:
        if name not in self.unfolded.checked:
            bucket, unfolded = self._buckets[name], self.unfolded.get(name)
            check_entries(self._connection, self._path, bucket, unfolded.rows if unfolded else {})
            self.unfolded.checked.add(name)

    def write(self, members: Sequence[PendingCommit]) -> list[Outcome]:
        """Each commit's version, or its error, in order. Returns after COMMIT."""
        if self._move.state:
            return [Unavailable(": ".join((self._path, *self._move.refusal))) for _ in members]
        try:
            moved: dict[str, BucketGroup] = {}
            outcomes = self._transaction(lambda: self._decide_and_write(members, moved))
        except CfgsyncError as error:
            return [again(error) for _ in members]
        for name, group in moved.items():
            self.unfolded.put(name, group.unfolded())
            self.unfolded.checked.add(name)
        return outcomes

    def _decide_and_write(
        self, members: Sequence[PendingCommit], moved: dict[str, BucketGroup]
    ) -> tuple[list[Outcome], dict[str, Bucket]]:
        keys: dict[str, dict[str, None]] = {}
        for member in members:
            named = keys.setdefault(member.bucket, {})
            named.update(member.writes)  # type: ignore[arg-type]  # only the keys matter
            if member.expected:
                named.update(member.expected)  # type: ignore[arg-type]
        now = self._clock()
        groups: dict[str, BucketGroup] = {}
        for name, named in keys.items():
            held = self._buckets.get(name)
            if held is None:
                number = 1 + max((bucket.id for bucket in self._buckets.values()), default=0)
                number += sum(group.is_new for group in groups.values())
                group = BucketGroup(Bucket(name, id=number), mint_epoch(self._epochs()), now, None)
            else:
                self._check(name)
                group = BucketGroup(msgspec.structs.replace(held), "", now, self.unfolded.get(name))
            group.read_heads(self._connection, self._path, named)
            groups[name] = group
        # one random number for the group and a count in its low bits (RFC 9562, 6.2): a call for each commit is expensive
        commit_id = int(uuid7().replace("-", ""), 16) & ~(1 << 61)
        outcomes: list[Outcome] = []
        for count, member in enumerate(members):
            outcomes.append(groups[member.bucket].add(member.writes, member.expected, commit_id + count))
        moved.update((name, group) for name, group in groups.items() if group.changed)
        for group in moved.values():
            self.transactions.logged_bytes += group.write(self._connection, self._path) + 3 * _PAGE_BYTES
        return outcomes, {name: group.bucket for name, group in moved.items()}

    def load(self, name: str, version: Version, entries: Sequence[Entry]) -> None:
        """Make an absent bucket hold exactly `entries`, which were checked, at `version`."""

        def insert() -> tuple[None, dict[str, Bucket]]:
            if name in self._buckets:
                raise StoreRefused(
                    f"bucket {name!r} is already there", "load into a store that does not have it"
                )
            number = 1 + max((bucket.id for bucket in self._buckets.values()), default=0)
            bucket = Bucket(name, number, *version, floor=version.revision, folded=version.revision)
            rows = {}
            for entry in entries:
                rows[entry.key] = (entry.revision, sha256(entry.value).digest(), entry.value, entry.at_ms)
            bucket.at_ms = max((entry.at_ms for entry in entries), default=0)
            bucket.seal = seal((key, at, digest, ms) for key, (at, digest, _, ms) in rows.items())
            write_entries(self._connection, bucket.id, rows)
            insert_bucket(self._connection, bucket)
            self.transactions.logged_bytes += sum(len(entry.value) for entry in entries)
            return None, {name: bucket}

        self._transaction(insert)
        self.unfolded.put(name, Unfolded(version.revision))
        self.unfolded.checked.add(name)

    def drop(self, name: str) -> Version:
        """Delete a bucket's keys and history; its new epoch begins at the next revision."""

        def delete() -> tuple[Version, dict[str, Bucket]]:
            held = self._buckets.get(name)
            if held is None:
                return NEVER, {}
            version = Version(mint_epoch(self._epochs()), held.revision + 1)
            bucket = Bucket(
                name, held.id, *version, held.at_ms, floor=version.revision, folded=version.revision
            )
            update_bucket(self._connection, self._path, bucket, held.version)
            for table in ("entry", "history"):
                self._connection.execute(f"delete from {table} where bucket = ?", (held.id,))
            return version, {name: bucket}

        version = self._transaction(delete)
        if version != NEVER:
            self.unfolded.put(name, Unfolded(version.revision))
        return version

    def mark(self, before: Move, after: Move) -> bool:
        """No commit is under way in this thread, and no other process has the file."""
        if self._move != before:
            return False

        def update() -> tuple[None, dict[str, Bucket]]:
            changed = self._connection.execute(
                "update move set state = ?, peer = ?, epoch = ? where id = 1", msgspec.structs.astuple(after)
            )
            if changed.rowcount != 1:
                raise damaged(self._path, "its row move is lost")
            return None, {}

        self.transactions.run(update, always=True)
        self._move = after
        return True

    def new_epoch(self, after: str | None) -> dict[str, Version]:
        """Give every bucket one new epoch; revisions stay."""
        for name in self._buckets:
            self._check(name)

        def update() -> tuple[dict[str, Version], dict[str, Bucket]]:
            epoch = mint_epoch([*self._epochs(), after or ""])
            moved = {}
            for name, bucket in sorted(self._buckets.items()):
                moved[name] = msgspec.structs.replace(bucket, epoch=epoch)
                update_bucket(self._connection, self._path, moved[name], bucket.version)
            return {name: bucket.version for name, bucket in moved.items()}, moved

        return self._transaction(update)

    def _transaction(self, work: Callable[[], tuple[T, dict[str, Bucket]]]) -> T:
        """Run `work` in one transaction; returns its result when the buckets that it changed are durable."""
        result, moved = self.transactions.run(work)
        self._buckets.update(moved)
        return result

    def _epochs(self) -> list[str]:
        return [bucket.epoch for bucket in self._buckets.values()]

    @property
    def fold_due(self) -> bool:
        return self.unfolded.due and self.transactions.fatal is None

    def fold(self) -> None:
        """Bring the entries of every bucket up to its newest revision. When that fails, on a full disk for example, nothing
        changes: acknowledged commits are in the history, and a later fold has more to do."""
        waiting = self.unfolded.pending()
        if not waiting:
            return
        for name in waiting:
            self._check(name)  # so that damage is never folded

        def write() -> tuple[None, dict[str, Bucket]]:
            buckets = {}
            for name, rows in waiting.items():
                buckets[name] = fold(self._connection, self._path, self._buckets[name], rows)
            return None, buckets

        try:
            self._transaction(write)
        except CfgsyncError:
            self.unfolded.postpone()
            return
        for name, rows in waiting.items():
            self.unfolded.put(name, Unfolded(self._buckets[name].revision))
            self.transactions.logged_bytes += len(rows) * _PAGE_BYTES

    def close(self) -> None:
        """Fold, and leave one file with everything in it. After a fatal error, write nothing more."""
        if self.transactions.fatal is None:
            self.fold()
        self.transactions.close()
