"""The sessions of a store with its database: one that writes, a few that read, and which history the database has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import asyncpg

from cfgsync_core import Version
from cfgsync_core.log_events import event
from cfgsync_core.store import mint_epoch

from .address import COMMAND_SECONDS, CONNECT_SECONDS, SESSION, Address
from .failures import FAILURES, unavailable
from .writing import latest_epoch

_READERS: Final = 4
_HISTORY: Final = (
    "select (select system_identifier::text from pg_control_system()),"
    " substring(pg_walfile_name(pg_current_wal_lsn()) for 8), system, timeline from {schema}.store"
)
"""Which history the database has now, and which one it had. Another timeline came from a replica that may lack commits;
another system is a restored dump. (`pg_control_checkpoint` names a new timeline only after its first checkpoint.)"""

T = TypeVar("T")

log = logging.getLogger("cfgsync.store")


class Sessions:
    """Opened by `open`, which takes the first session: it has made the tables. `written_at` is the loop's time of the last commit."""

    def __init__(self, address: Address, read_only: bool) -> None:
        self.at = address
        self._read_only = read_only
        self.pool = asyncpg.create_pool(
            **session_settings(address, read_only), min_size=0, max_size=_READERS, reset=_no_reset
        )
        self._session: asyncpg.Connection | None = None  # the one that writes
        self._history: tuple[str, str] | None = None
        self.written_at = 0.0

    async def open(self, first: asyncpg.Connection) -> None:
        if not self._read_only:
            await self._look_at_history(first)
        await self.pool

    async def close(self) -> None:
        self.lose_writer()
        with suppress(*FAILURES):
            async with asyncio.timeout(1.0):
                await self.pool.close()
                return
        self.pool.terminate()

    async def connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(**session_settings(self.at, self._read_only))

    async def writer(self) -> asyncpg.Connection:
        if self._session is None or self._session.is_closed():
            self._session = None
            session = await self.connect()
            try:
                await self._look_at_history(session)
            except BaseException:
                session.terminate()
                raise
            self._session = session
        return self._session

    def lose_writer(self) -> None:
        """`terminate`, since `close` would wait for a database that does not answer."""
        session, self._session = self._session, None
        if session is not None:
            session.terminate()

    async def read(self, ask: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Asked twice when the session had been lost before it was used."""
        for attempt in range(2):
            try:
                async with self.pool.acquire(timeout=CONNECT_SECONDS) as session:
                    try:
                        return await ask(session)
                    except FAILURES:
                        session.terminate()
                        raise
            except FAILURES as error:
                self.written_at = 0.0  # `ping` asks the disk
                lost = isinstance(
                    error, asyncpg.PostgresConnectionError | asyncpg.InterfaceError | ConnectionError
                )
                if attempt or not lost:
                    raise unavailable(self.at.shown, error) from error
        raise AssertionError("unreachable")

    async def _look_at_history(self, session: asyncpg.Connection) -> None:
        """A database with another history than the store's last one may have lost commits: every bucket gets a new epoch."""
        schema = self.at.schema
        system, timeline, *held = await session.fetchrow(_HISTORY.format(schema=schema))
        if held != [system, timeline]:
            async with session.transaction():
                # one server makes the epoch; the others wait here and find it made
                held = list(await session.fetchrow(f"select system, timeline from {schema}.store for update"))
                if held != [system, timeline] and held != ["", ""]:
                    await give_new_epoch(session, schema, "")
                await session.execute(
                    f"update {schema}.store set system = $1, timeline = $2", system, timeline
                )
        before = self._history or (tuple(held) if held != ["", ""] else (system, timeline))
        self._history = (system, timeline)
        if before != self._history:
            log.warning(
                "PostgreSQL at %s has another history than before (timeline %s, it was %s): commits may be lost, so every"
                " bucket has a new epoch",
                self.at.shown,
                timeline,
                before[1],
                extra=event("history_lost", timeline=timeline),
            )


async def give_new_epoch(session: asyncpg.Connection, schema: str, after: str) -> dict[str, Version]:
    rows = await session.fetch(
        f"select name, revision from {schema}.bucket where epoch <> '' order by name for update"
    )
    epoch = mint_epoch([await latest_epoch(session, schema), after])
    await session.execute(f"update {schema}.bucket set epoch = $1 where epoch <> ''", epoch)
    return {name: Version(epoch, revision) for name, revision in rows}


def session_settings(address: Address, read_only: bool) -> dict[str, Any]:
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
