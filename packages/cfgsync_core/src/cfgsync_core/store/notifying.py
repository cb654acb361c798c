"""Commit first, notify second: the only place that publishes hints and announces events.

A commit returns as soon as it is durable. One task for each bucket then sends the hint and the event, so that commits in a
burst share them, and a transport that is slow or dead delays no writer and fails no commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from ..errors import Conflict, OutcomeUnknown, Unavailable
from ..log_events import event
from ..text import error_text
from .contract import BucketSnapshot, Change, Entry, Gap, RevisionedStore, Unchanged, Version
from .hints import ChangeEvents, ChangeHints

SENDING_SECONDS = 1.0
"""How long one hint or event may take before it counts as lost."""

_LOST = object()

log = logging.getLogger("cfgsync")


class StoreCounts:
    """Counts since the start: how commits ended, and how many hints and events were sent or lost."""

    __slots__ = ("commits", "events", "hints")

    def __init__(self) -> None:
        self.commits = {"committed": 0, "conflict": 0, "failed": 0, "cancelled": 0}
        """`committed` also counts commits that changed nothing. A `cancelled` commit still runs to its end, unread."""
        self.hints = {"published": 0, "lost": 0}
        self.events = {"published": 0, "skipped_not_connected": 0, "failed": 0, "lost": 0}


class NotifyingStore:
    """A store that sends a hint after each commit. Leaving `async with` waits for those that are being sent."""

    def __init__(
        self, store: RevisionedStore, hints: ChangeHints, events: ChangeEvents | None = None
    ) -> None:
        self._store = store
        self._hints = hints
        self._events = events
        self._announced: dict[str, Version] = {}
        self._pending: dict[str, Version | None] = {}  # None: a commit whose outcome is unknown
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending: set[str] = set()
        self.tally = StoreCounts()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    def version(self, bucket: str) -> Coroutine[Any, Any, Version]:
        return self._store.version(bucket)

    def get(self, bucket: str, key: str) -> Coroutine[Any, Any, Entry | None]:
        return self._store.get(bucket, key)

    def snapshot(
        self, bucket: str, known: Version | None = None
    ) -> Coroutine[Any, Any, BucketSnapshot | Unchanged]:
        return self._store.snapshot(bucket, known)

    def changes(self, bucket: str, since: Version) -> Coroutine[Any, Any, Sequence[Change] | Gap]:
        return self._store.changes(bucket, since)

    async def commit(
        self, bucket: str, writes: Mapping[str, bytes | None], expected: Mapping[str, int] | None = None
    ) -> Version:
        try:
            version = await self._store.commit(bucket, writes, expected)
        except asyncio.CancelledError:
            self.tally.commits["cancelled"] += 1
            self._start(self._after_a_cancelled_commit(bucket))
            raise
        except OutcomeUnknown:
            self.tally.commits["failed"] += 1
            self._notify(bucket, None)
            raise
        except Conflict:
            self.tally.commits["conflict"] += 1
            raise
        except Exception:
            self.tally.commits["failed"] += 1
            raise
        self.tally.commits["committed"] += 1
        if self._announced.get(bucket) != version:
            self._announced[bucket] = version
            self._notify(bucket, version)
        return version

    def _notify(self, bucket: str, version: Version | None) -> None:
        self._pending[bucket] = version
        if bucket not in self._sending:
            self._sending.add(bucket)
            self._start(self._send(bucket))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, bucket: str) -> None:
        try:
            while bucket in self._pending:
                version = self._pending.pop(bucket)
                sent = await self._attempt(self._hints.publish(bucket), "hint", bucket)
                self.tally.hints["lost" if sent is _LOST else "published"] += 1
                if self._events is not None and version is not None:
                    body = {"bucket": bucket, "epoch": version.epoch, "revision": version.revision}
                    announced = await self._attempt(
                        self._events.announce(bucket, msgspec.json.encode(body)), "event", bucket
                    )
                    self.tally.events["lost" if announced is _LOST else str(announced)] += 1
        finally:
            self._sending.discard(bucket)

    async def _attempt(self, sending: Coroutine[Any, Any, object], what: str, bucket: str) -> object:
        try:
            async with asyncio.timeout(SENDING_SECONDS):
                return await sending
        except Exception as error:  # whatever a transport raises: readers also look without a hint
            log.warning(
                "the %s for bucket %r was lost: %s",
                what,
                bucket,
                error_text(error),
                extra=event("hint_lost", what=what, bucket=bucket),
            )
            return _LOST

    async def _after_a_cancelled_commit(self, bucket: str) -> None:
        """Notify when the cancelled commit has ended. An empty commit writes nothing and returns after it."""
        try:
            version = await self._store.commit(bucket, {})
        except Unavailable:
            version = None
        self._notify(bucket, version)
