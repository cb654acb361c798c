"""Hints of the servers that share a database, over one NOTIFY channel: a hash of the bucket, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from cfgsync_core import MemoryHints
from cfgsync_core.log_events import event

from .address import Address
from .failures import FAILURES

if TYPE_CHECKING:
    import asyncpg

CHANNEL: Final = "cfgsync"
_PUBLISH_SECONDS: Final = 1.0
_ALIVE_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = (0.1, 2.0)

log = logging.getLogger("cfgsync.store")


class PostgresHints:
    """`ChangeHints` over a session of its own that listens. While it is away no hint comes; when it is back, every
    subscriber gets a hint, since it may have missed some."""

    def __init__(
        self, address: Address, connect: Callable[[], Awaitable[asyncpg.Connection]], pool: asyncpg.Pool
    ) -> None:
        self._address = address
        self._connect = connect
        self._pool = pool
        self._local = MemoryHints()
        self._buckets: dict[str, str] = {}
        self._listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._listening = asyncio.create_task(self._listen(), name="cfgsync-postgres-listen")

    async def stop(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening

    async def publish(self, bucket: str) -> None:
        """In a transaction of its own: inside the commit, NOTIFY takes a lock on the whole database."""
        with suppress(*FAILURES):
            async with asyncio.timeout(_PUBLISH_SECONDS), self._pool.acquire() as session:
                await session.execute("select pg_notify($1, $2)", CHANNEL, self._name(bucket))

    def subscribe(self, bucket: str) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        self._buckets[self._name(bucket)] = bucket
        return self._local.subscribe(bucket)

    def _name(self, bucket: str) -> str:
        return sha256(f"{self._address.schema}\0{bucket}".encode()).hexdigest()

    def _heard(self, _: Any, pid: int, channel: str, name: str) -> None:
        if (bucket := self._buckets.get(name)) is not None:
            self._local.wake(bucket)

    async def _listen(self) -> None:
        pause, is_away = _AGAIN_SECONDS[0], False
        while True:
            try:
                session, ended = await self._connect(), asyncio.Event()
                try:
                    session.add_termination_listener(lambda _, ended=ended: ended.set())
                    await session.add_listener(CHANNEL, self._heard)
                    for bucket in self._buckets.values():
                        self._local.wake(bucket)
                    pause, is_away = _AGAIN_SECONDS[0], False
                    while True:  # a session that is cut in the middle hears nothing, and is not told so
                        with suppress(TimeoutError):
                            await asyncio.wait_for(ended.wait(), _ALIVE_SECONDS)
                        await session.execute("select 1")
                finally:
                    session.terminate()
            except Exception as error:  # also an unforeseen one: it must not end all hints
                if not is_away:  # once, and not at each try
                    log.warning(
                        "no hints of other servers from PostgreSQL at %s for now (%s); what they commit is read by interval",
                        self._address.shown,
                        type(error).__name__,
                        exc_info=None if isinstance(error, FAILURES) else error,
                        extra=event("hints_lost"),
                    )
                is_away = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, _AGAIN_SECONDS[1])
