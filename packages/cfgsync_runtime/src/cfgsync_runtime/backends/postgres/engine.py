"""The store in PostgreSQL, seen from the event loop: commits wait here while the group before them is written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any, Final, TypeVar

import asyncpg

from cfgsync_core import (
    NEVER,
    Backend,
    BucketSnapshot,
    Change,
    Entry,
    Gap,
    OutcomeUnknown,
    StoreRefused,
    Unavailable,
    Unchanged,
    Version,
)
from cfgsync_core.log_events import event
from cfgsync_core.store import check_load, check_writes, mint_epoch

from . import reading
from .address import COMMAND_SECONDS, CONNECT_SECONDS, SESSION, Address, read_address
from .failures import FAILURES, LOST, opening, translated, unavailable
from .group import Counters
from .hints import PostgresHints
from .schema import prepare
from .writing import (
    Decided,
    Outcome,
    PendingCommit,
    decide,
    latest_epoch,
    lock_buckets,
    look_up,
    write_counters,
    write_entries,
)

MAX_GROUP: Final = 1024
"""Commits of one group at most, so that a flood is answered in steps."""
_READERS: Final = 4
_RESOLVE_SECONDS: Final = 10.0
"""How long the answer to a COMMIT is looked up after it was lost."""
_PING_SECONDS: Final = 2.0
_FRESH_SECONDS: Final = 5.0
_HISTORY: Final = (
    "select (select system_identifier::text from pg_control_system()),"
    " substring(pg_walfile_name(pg_current_wal_lsn()) for 8), system, timeline from {schema}.store"
)
"""Which history the database has now, and which one it had. Another timeline came from a replica that may lack commits;
another system is a restored dump. (`pg_control_checkpoint` names a new timeline only after its first checkpoint.)"""

T = TypeVar("T")

log = logging.getLogger("cfgsync.store")


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
        yield Backend(store, store, hints=None if read_only else store.hints)


class PostgresStore:
    """Made by `PostgresStore.opened`."""

    def __init__(self, address: Address, pool: asyncpg.Pool, read_only: bool) -> None:
        self._at = address
        self._pool = pool
        self._read_only = read_only
        self._session: asyncpg.Connection | None = None  # the one that writes
        self._order = asyncio.Lock()  # of what it writes
        self._pending: list[PendingCommit] = []
        self._writing: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._written_at = 0.0
        self._history: tuple[str, str] | None = None
        self.hints = PostgresHints(address, self._connect, pool)

    @classmethod
    @asynccontextmanager
    async def opened(cls, address: Address, *, read_only: bool = False) -> AsyncIterator[PostgresStore]:
        """Raises `StoreRefused`."""
        with opening(address.shown):
            pool = asyncpg.create_pool(
                **_session(address, read_only), min_size=0, max_size=_READERS, reset=_no_reset
            )
            first = await asyncpg.connect(**_session(address, read_only))
            try:
                await prepare(first, address, read_only=read_only)
                store = cls(address, pool, read_only)
                if not read_only:
                    await store._look_at_history(first)
            finally:
                first.terminate()
            await pool
        store.hints.start()
        try:
            yield store
        finally:
            await store._close()

    async def _close(self) -> None:
        await self.hints.stop()
        if self._writing is not None:  # commits that were accepted run to their end
            await self._writing
        if self._session is not None:
            self._session.terminate()
        with suppress(*FAILURES):
            async with asyncio.timeout(1.0):
                await self._pool.close()
                return
        self._pool.terminate()

    # The five verbs

    async def version(self, bucket: str) -> Version:
        return await self._read(lambda session: reading.read_version(session, self._at, bucket))

    async def get(self, bucket: str, key: str) -> Entry | None:
        return await self._read(lambda session: reading.read_entry(session, self._at, bucket, key))

    async def snapshot(self, bucket: str, known: Version | None = None) -> BucketSnapshot | Unchanged:
        return await self._read(lambda session: reading.read_snapshot(session, self._at, bucket, known))

    async def changes(self, bucket: str, since: Version) -> Sequence[Change] | Gap:
        return await self._read(lambda session: reading.read_changes(session, self._at, bucket, since))

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
        if asyncio.get_running_loop().time() - self._written_at < _FRESH_SECONDS:
            return
        if self._asking is None:
            self._asking = asyncio.create_task(self._beat())
            self._asking.add_done_callback(self._asked)
        done, _ = await asyncio.wait([self._asking], timeout=_PING_SECONDS)
        if not done:
            raise Unavailable(f"PostgreSQL at {self._at.shown} has not answered for {_PING_SECONDS:g} s")
        done.pop().result()

    async def _beat(self) -> None:
        beat = f"update {self._at.schema}.store set beat = beat + 1"
        await self._read(lambda session: session.execute("select 1" if self._read_only else beat))
        self._written_at = asyncio.get_running_loop().time()

    def _asked(self, asked: asyncio.Task[None]) -> None:
        self._asking = None
        if not asked.cancelled():
            asked.exception()  # its readers may all have gone

    async def buckets(self) -> Sequence[str]:
        return await self._read(lambda session: reading.read_buckets(session, self._at))

    async def export(self, bucket: str) -> AsyncIterator[Entry]:
        snapshot = await self.snapshot(bucket)
        for entry in () if isinstance(snapshot, Unchanged) else snapshot.entries:
            yield entry

    async def load(self, bucket: str, version: Version, entries: Sequence[Entry]) -> None:
        check_load(bucket, version, entries)

        async def insert(session: asyncpg.Connection) -> None:
            held = (await lock_buckets(session, self._at.schema, [bucket]))[bucket]
            if held.epoch:
                raise StoreRefused(
                    f"bucket {bucket!r} is already there", "load into a store that does not have it"
                )
            rows = [
                (bucket, one.key, one.revision, sha256(one.value).digest(), one.value, one.at_ms)
                for one in entries
            ]
            await write_entries(session, self._at.schema, rows)
            latest = max((entry.at_ms for entry in entries), default=0)
            counters = Counters(*version, floor=version.revision, at_ms=latest)
            await write_counters(session, self._at.schema, {bucket: counters})

        await self._operate(insert)

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
            await write_counters(session, schema, {bucket: counters})
            return version

        return await self._operate(delete)

    async def new_epoch(self, after: str | None = None) -> Mapping[str, Version]:
        return await self._operate(lambda session: _give_new_epoch(session, self._at.schema, after or ""))

    # Groups

    async def _write_groups(self) -> None:
        while self._pending:
            members, self._pending = self._pending[:MAX_GROUP], self._pending[MAX_GROUP:]
            outcomes: Sequence[Outcome | BaseException]
            try:
                async with self._order:
                    outcomes = await self._group(members)
            except Exception as error:
                # a copy for each caller: one exception raised in many tasks would collect their tracebacks
                outcomes = [_again(error) for _ in members]
            for member, outcome in zip(members, outcomes, strict=True):
                if member.answer.done():  # the caller was cancelled; its commit went on to its end
                    continue
                if isinstance(outcome, Version):
                    member.answer.set_result(outcome)
                else:
                    member.answer.set_exception(outcome)
        self._writing = None

    async def _group(self, members: Sequence[PendingCommit]) -> list[Outcome]:
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
            self._lose_writer()
            with translated(self._at.shown):
                raise error
        except FAILURES as error:
            self._lose_writer()
            return await self._looked_up(decided, error)
        self._written_at = asyncio.get_running_loop().time()
        return decided.outcomes

    async def _decided(self, members: Sequence[PendingCommit]) -> tuple[asyncpg.Connection, Decided]:
        """The group in a transaction that is open; ended, if it changes nothing."""
        session = await self._writer()
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                await session.execute("begin")
                decided = await decide(session, self._at.schema, members)
                if not decided.is_changed:
                    await session.execute("rollback")
        except BaseException:
            self._lose_writer()
            raise
        return session, decided

    async def _looked_up(self, decided: Decided, lost: BaseException) -> list[Outcome]:
        """What became of a group whose COMMIT was sent, and whose answer did not come."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _RESOLVE_SECONDS
        while loop.time() < until:
            try:
                session = await self._writer()
                return await look_up(session, self._at.schema, decided)
            except FAILURES:
                self._lose_writer()
                await asyncio.sleep(0.2)
        words = f"{unavailable(self._at.shown, lost)}; the commit may have been made"
        return [OutcomeUnknown(words) for _ in decided.outcomes]

    # Sessions

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(**_session(self._at, self._read_only))

    async def _writer(self) -> asyncpg.Connection:
        if self._session is None or self._session.is_closed():
            self._session = None
            session = await self._connect()
            try:
                await self._look_at_history(session)
            except BaseException:
                session.terminate()
                raise
            self._session = session
        return self._session

    def _lose_writer(self) -> None:
        """`terminate`, since `close` would wait for a database that does not answer."""
        session, self._session = self._session, None
        if session is not None:
            session.terminate()

    def _refuse_writing(self) -> None:
        if self._read_only:
            raise StoreRefused(
                f"PostgreSQL at {self._at.shown} is open for reading only", "open it for writing"
            )

    async def _read(self, ask: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Asked twice when the session had been lost before it was used."""
        for attempt in range(2):
            try:
                async with self._pool.acquire(timeout=CONNECT_SECONDS) as session:
                    try:
                        return await ask(session)
                    except FAILURES:
                        session.terminate()
                        raise
            except FAILURES as error:
                self._written_at = 0.0  # `ping` asks the disk
                lost = isinstance(
                    error, asyncpg.PostgresConnectionError | asyncpg.InterfaceError | ConnectionError
                )
                if attempt or not lost:
                    raise unavailable(self._at.shown, error) from error
        raise AssertionError("unreachable")

    async def _operate(self, order: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        self._refuse_writing()
        async with self._order:
            with translated(self._at.shown):
                session = await self._writer()
                try:
                    await session.execute("begin")
                    result = await order(session)
                except BaseException:
                    self._lose_writer()
                    raise
            try:
                await session.execute("commit")
            except FAILURES as error:
                self._lose_writer()
                words = f"{unavailable(self._at.shown, error)}; the change may have been made"
                raise OutcomeUnknown(words) from error
            return result

    async def _look_at_history(self, session: asyncpg.Connection) -> None:
        """A database with another history than the store's last one may have lost commits: every bucket gets a new epoch."""
        schema = self._at.schema
        system, timeline, *held = await session.fetchrow(_HISTORY.format(schema=schema))
        if held != [system, timeline]:
            async with session.transaction():
                # one server makes the epoch; the others wait here and find it made
                held = list(await session.fetchrow(f"select system, timeline from {schema}.store for update"))
                if held != [system, timeline] and held != ["", ""]:
                    await _give_new_epoch(session, schema, "")
                await session.execute(
                    f"update {schema}.store set system = $1, timeline = $2", system, timeline
                )
        before = self._history or (tuple(held) if held != ["", ""] else (system, timeline))
        self._history = (system, timeline)
        if before != self._history:
            log.warning(
                "PostgreSQL at %s has another history than before (timeline %s, it was %s): commits may be lost, so every"
                " bucket has a new epoch",
                self._at.shown,
                timeline,
                before[1],
                extra=event("history_lost", timeline=timeline),
            )


async def _give_new_epoch(session: asyncpg.Connection, schema: str, after: str) -> dict[str, Version]:
    rows = await session.fetch(
        f"select name, revision from {schema}.bucket where epoch <> '' order by name for update"
    )
    epoch = mint_epoch([await latest_epoch(session, schema), after])
    await session.execute(f"update {schema}.bucket set epoch = $1 where epoch <> ''", epoch)
    return {name: Version(epoch, revision) for name, revision in rows}


def _session(address: Address, read_only: bool) -> dict[str, Any]:
    settings = {"application_name": "cfgsync", **SESSION}
    if read_only:
        settings["default_transaction_read_only"] = "on"
    return {
        "dsn": address.dsn,
        "timeout": CONNECT_SECONDS,
        "command_timeout": COMMAND_SECONDS,
        "server_settings": settings,
    }


async def _no_reset(session: Any) -> None:
    """A session keeps nothing between two reads, and the library's own reset is one question more for each."""


def _again(error: Exception) -> Exception:
    return type(error)(*error.args) if isinstance(error, Unavailable) else error
