"""The servers that share a store, for `/status`: twice a minute each writes how far it has read, and reads what the others wrote.

Nothing depends on it. A commit here sends no hint, and it is in a bucket that no mirror follows.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec

from cfgsync_core import FleetStatus, NodeStatus, RevisionedStore, Unavailable, Unchanged
from cfgsync_core.log_events import event
from cfgsync_core.wire import ServerStatus, StatusSource

BUCKET: Final = "servers"
BEAT_SECONDS: Final = 30.0
SILENT_AFTER: Final = 90.0
"""Seconds after which a server counts as silent."""
FORGOTTEN_AFTER: Final = 600.0
LEAVE_SECONDS: Final = 1.0

log = logging.getLogger("cfgsync")


class _Row(msgspec.Struct):
    """What a server writes of itself. `beat` makes each one differ from the one before."""

    beat: int = 0
    revision: int = 0
    generation: str | None = None


class SharedStatus(StatusSource):
    """The status of a source that shares `store`, with the servers that do."""

    def __init__(self, source: StatusSource, store: RevisionedStore) -> None:
        self._source = source
        self._store = store
        self._name = ""
        self._beat = 0
        self._read_at = 0.0
        self._others: dict[str, tuple[float, _Row]] = {}
        """By name: seconds of silence when it was read, and what the server wrote."""

    def fleet(self, limit: int, after: str) -> FleetStatus:
        fleet = self._source.fleet(limit, after)
        passed = time.monotonic() - self._read_at
        found = [ServerStatus(self._name, fleet.revision, fleet.generation)] if self._name else []
        for name, (silent, row) in self._others.items():
            seen = silent + passed
            found.append(ServerStatus(name, row.revision, row.generation, int(seen), seen > SILENT_AFTER))
        return msgspec.structs.replace(fleet, servers=tuple(found))

    def nodes(self, limit: int, after: str) -> Sequence[NodeStatus]:
        return self._source.nodes(limit, after)

    def node(self, identifier: str) -> NodeStatus:
        return self._source.node(identifier)

    async def ping(self) -> None:
        await self._source.ping()

    @asynccontextmanager
    async def listed(self, port: int) -> AsyncIterator[None]:
        """This server is in the list while the context lasts: by the names of its machine and port, so that its next start
        takes the same row."""
        self._name = f"{socket.gethostname()}:{port}"
        beating = asyncio.create_task(self._beats(), name="cfgsync-servers")
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._store.commit(BUCKET, {self._name: None})

    async def _beats(self) -> None:
        has_failed = False
        while True:
            try:
                await self._write_and_read()
                has_failed = False
            except Unavailable:
                pass  # the others are then shown as they were
            except Exception as error:  # an unforeseen one must not end the list
                if not has_failed:
                    words = "the list of servers cannot be read"
                    log.error(words, exc_info=error, extra=event("servers_unread"))
                has_failed = True
            await asyncio.sleep(min(BEAT_SECONDS, 2**self._beat))  # servers often start together

    async def _write_and_read(self) -> None:
        self._beat += 1
        now = self._source.fleet(0, "")
        forgotten = [name for name, (silent, _) in self._others.items() if silent > FORGOTTEN_AFTER]
        own = msgspec.json.encode(_Row(self._beat, now.revision, now.generation))
        await self._store.commit(BUCKET, {**dict.fromkeys(forgotten), self._name: own})
        answer = await self._store.snapshot(BUCKET)
        assert not isinstance(answer, Unchanged)  # no version was named
        self._read_at = time.monotonic()
        latest = max((entry.at_ms for entry in answer.entries), default=0)  # by the store's clock, as all are
        self._others = {
            entry.key: ((latest - entry.at_ms) / 1000, msgspec.json.decode(entry.value, type=_Row))
            for entry in answer.entries
            if entry.key != self._name
        }
