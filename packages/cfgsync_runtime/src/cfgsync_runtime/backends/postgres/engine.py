"""The store in PostgreSQL, seen from the event loop: commits wait here while the group before them is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import asyncpg

from cfgsync_core import (
    NEVER,
    Backend,
    BucketSnapshot,
    CfgsyncError,
    Change,
    Entry,
    Gap,
    OutcomeUnknown,
    StoreRefused,
    Unavailable,
    Unchanged,
    Version,
)
from cfgsync_core.store import Move, check_load, check_writes, mint_epoch

from ...errors import again
from . import reading
from .address import COMMAND_SECONDS, Address, read_address
from .failures import FAILURES, LOST, opening, translated, unavailable
from .group import Counters
from .hints import PostgresHints
from .moving import read_move, write_move
from .schema import prepare
from .sessions import Sessions, give_new_epoch
from .writing import (
    Decided,
    Outcome,
    PendingCommit,
    decide,
    latest_epoch,
    load_bucket,
    lock_buckets,
    look_up,
    write_buckets,
)

MAX_GROUP: Final = 1024
"""Commits of one group at most, so that a flood is answered in steps."""
_RESOLVE_SECONDS: Final = 10.0
"""How long the answer to a COMMIT is looked up after it was lost."""
_PING_SECONDS: Final = 2.0
_FRESH_SECONDS: Final = 5.0
T = TypeVar("T")


@asynccontextmanager
async def open_postgres(
    url: str,
    *,
    read_only: bool,
    on_fatal: Callable[[BaseException], None] | None,
    accept_loss: bool = False,
) -> AsyncIterator[Backend]:
    """`postgresql://USER@HOST/DATABASE`, with `?schema=NAME` for one of several stores in it (default: cfgsync)."""
    address = read_address(url)
    async with PostgresStore.opened(address, read_only=read_only) as store:
        yield Backend(store, store, hints=None if read_only else store.hints, mover=store)


class PostgresStore:
    """Made by `PostgresStore.opened`."""

    def __init__(self, sessions: Sessions, read_only: bool) -> None:
        self._at = sessions.at
        self._sessions = sessions
        self._read_only = read_only
        self._order = asyncio.Lock()  # of what the session that writes does
        self._pending: list[PendingCommit] = []
        self._writing: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self.hints = PostgresHints(sessions.at, sessions.connect, sessions.pool)

    @classmethod
    @asynccontextmanager
    async def opened(cls, address: Address, *, read_only: bool = False) -> AsyncIterator[PostgresStore]:
        """Raises `StoreRefused`."""
        with opening(address.shown):
            sessions = Sessions(address, read_only)
            first = await sessions.connect()
            try:
                await prepare(first, address, read_only=read_only)
                await sessions.open(first)
            finally:
                first.terminate()
        store = cls(sessions, read_only)
        store.hints.start()
        try:
            yield store
        finally:
            await store.hints.stop()
            if store._writing is not None:  # commits that were accepted run to their end
                await store._writing
            await sessions.close()

    # The five verbs

    async def version(self, bucket: str) -> Version:
        return await self._sessions.read(lambda session: reading.read_version(session, self._at, bucket))

    async def get(self, bucket: str, key: str) -> Entry | None:
        return await self._sessions.read(lambda session: reading.read_entry(session, self._at, bucket, key))

    async def snapshot(self, bucket: str, known: Version | None = None) -> BucketSnapshot | Unchanged:
        return await self._sessions.read(
            lambda session: reading.read_snapshot(session, self._at, bucket, known)
        )

    async def changes(self, bucket: str, since: Version) -> Sequence[Change] | Gap:
        return await self._sessions.read(
            lambda session: reading.read_changes(session, self._at, bucket, since)
        )

    async def commit(
        self, bucket: str, writes: Mapping[str, bytes | None], expected: Mapping[str, int] | None = None
    ) -> Version:
        check_writes(bucket, writes)
        self._refuse_writing()
        answer: asyncio.Future[Version] = asyncio.get_running_loop().create_future()
        self._pending.append(
            PendingCommit(bucket, dict(writes), dict(expected) if expected else None, answer)
        )
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_groups(), name="cfgsync-postgres-write")
        return await answer

    # The operator's side

    async def ping(self) -> None:
        if asyncio.get_running_loop().time() - self._sessions.written_at < _FRESH_SECONDS:
            return
        if self._asking is None:
            self._asking = asyncio.create_task(self._beat())
            self._asking.add_done_callback(self._asked)
        done, _ = await asyncio.wait([self._asking], timeout=_PING_SECONDS)
        if not done:
            raise Unavailable(f"PostgreSQL at {self._at.shown} has not answered for {_PING_SECONDS:g} s")
        done.pop().result()

    async def _beat(self) -> None:
        beat = f"update {self._at.schema}.store set beat = beat + 1 returning move, peer, move_epoch"
        asked = "select '', '', ''" if self._read_only else beat
        move = Move(*await self._sessions.read(lambda session: session.fetchrow(asked)))
        if move.state:
            raise Unavailable(": ".join(move.refusal))
        self._sessions.written_at = asyncio.get_running_loop().time()

    def _asked(self, asked: asyncio.Task[None]) -> None:
        self._asking = None
        if not asked.cancelled():
            asked.exception()  # its readers may all have gone

    async def buckets(self) -> Sequence[str]:
        return await self._sessions.read(lambda session: reading.read_buckets(session, self._at))

    async def export(self, bucket: str) -> AsyncIterator[Entry]:
        snapshot = await self.snapshot(bucket)
        for entry in () if isinstance(snapshot, Unchanged) else snapshot.entries:
            yield entry

    async def load(self, bucket: str, version: Version, entries: Sequence[Entry]) -> None:
        check_load(bucket, version, entries)
        await self._operate(lambda session: load_bucket(session, self._at.schema, bucket, version, entries))

    async def drop(self, bucket: str) -> Version:
        async def delete(session: asyncpg.Connection) -> Version:
            schema = self._at.schema
            held = (await lock_buckets(session, schema, [bucket]))[bucket]
            if not held.epoch:
                return NEVER
            for table in ("entry", "history"):
                await session.execute(f"delete from {schema}.{table} where bucket = $1", bucket)
            version = Version(mint_epoch([await latest_epoch(session, schema)]), held.revision + 1)
            counters = Counters(*version, floor=version.revision, at_ms=held.at_ms)
            await write_buckets(session, schema, {bucket: counters})
            return version

        return await self._operate(delete)

    async def new_epoch(self, after: str | None = None) -> Mapping[str, Version]:
        return await self._operate(lambda session: give_new_epoch(session, self._at.schema, after or ""))

    async def move(self) -> Move:
        return await self._sessions.read(lambda session: read_move(session, self._at))

    async def mark(self, before: Move, after: Move) -> bool:
        return await self._operate(lambda session: write_move(session, self._at, before, after))

    # Groups

    async def _write_groups(self) -> None:
        while self._pending:
            members, self._pending = self._pending[:MAX_GROUP], self._pending[MAX_GROUP:]
            outcomes: Sequence[Outcome | BaseException]
            try:
                async with self._order:
                    outcomes = await self._group(members)
            except CfgsyncError as error:
                outcomes = [again(error) for _ in members]
            except Exception as error:  # a defect; no commit waits for ever
                outcomes = [error] * len(members)
            for member, outcome in zip(members, outcomes, strict=True):
                if member.answer.done():  # the caller was cancelled; its commit went on to its end
                    continue
                if isinstance(outcome, Version):
                    member.answer.set_result(outcome)
                else:
                    member.answer.set_exception(outcome)
        self._writing = None

    async def _group(self, members: list[PendingCommit]) -> list[Outcome]:
        with translated(self._at.shown):
            try:
                session, decided = await self._decided(members)
            except LOST:  # before COMMIT, and perhaps long ago: a new session decides anew
                session, decided = await self._decided(members)
        if not decided.is_changed:
            return decided.outcomes
        try:
            await session.execute("commit")
        except asyncpg.DiskFullError as error:
            self._sessions.lose_writer()
            with translated(self._at.shown):
                raise error
        except FAILURES as error:
            self._sessions.lose_writer()
            return await self._looked_up(decided, error)
        self._sessions.written_at = asyncio.get_running_loop().time()
        return decided.outcomes

    async def _decided(self, members: list[PendingCommit]) -> tuple[asyncpg.Connection, Decided]:
        """The group in a transaction that is open; ended, if it changes nothing."""
        session = await self._sessions.writer()
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                await session.execute("begin")
                decided = await decide(session, self._at.schema, members, self._take_pending)
                if not decided.is_changed:
                    await session.execute("rollback")
        except BaseException:
            self._sessions.lose_writer()
            raise
        return session, decided

    def _take_pending(self, buckets: Container[str]) -> list[PendingCommit]:
        taken = [one for one in self._pending if one.bucket in buckets][:MAX_GROUP]
        known = set(map(id, taken))
        self._pending = [one for one in self._pending if id(one) not in known]
        return taken

    async def _looked_up(self, decided: Decided, lost: BaseException) -> list[Outcome]:
        """What became of a group whose COMMIT was sent, and whose answer did not come."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _RESOLVE_SECONDS
        while loop.time() < until:
            try:
                session = await self._sessions.writer()
                return await look_up(session, self._at.schema, decided)
            except FAILURES:
                self._sessions.lose_writer()
                await asyncio.sleep(0.2)
        words = f"{unavailable(self._at.shown, lost)}; the commit may have been made"
        return [OutcomeUnknown(words) for _ in decided.outcomes]

    def _refuse_writing(self) -> None:
        if self._read_only:
            raise StoreRefused(
                f"PostgreSQL at {self._at.shown} is open for reading only", "open it for writing"
            )

    async def _operate(self, order: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        self._refuse_writing()
        async with self._order:
            with translated(self._at.shown):
                session = await self._sessions.writer()
                try:
                    await session.execute("begin")
                    result = await order(session)
                except BaseException:
                    self._sessions.lose_writer()
                    raise
            try:
                await session.execute("commit")
            except FAILURES as error:
                self._sessions.lose_writer()
                words = f"{unavailable(self._at.shown, error)}; the change may have been made"
                raise OutcomeUnknown(words) from error
            return result
