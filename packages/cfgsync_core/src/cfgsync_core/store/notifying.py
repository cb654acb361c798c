"""Commit first, notify second: the only place that publishes hints and has events announced.

A commit returns as soon as it is durable. One task for each bucket then sends the hint, so that commits in a burst share it,
and another task the events, which are never shared. A transport that is slow or dead delays no writer and fails no commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from ..errors import Conflict, OutcomeUnknown, Unavailable
from ..log_events import event
from ..text import error_text
from .announcing import SENDING_SECONDS, Announcing, Describe
from .contract import BucketSnapshot, Change, Entry, Gap, RevisionedStore, Unchanged, Version
from .hints import ChangeEvents, ChangeHints

log = logging.getLogger("cfgsync")


class StoreCounts:
    """Counts since the start: how commits ended, and how many hints and events were sent or lost."""

    __slots__ = ("commits", "copies_behind", "copies_mended", "events", "hints")

    def __init__(self) -> None:
        self.commits = {"committed": 0, "conflict": 0, "failed": 0, "cancelled": 0}
        """`committed` also counts commits that changed nothing. A `cancelled` commit still runs to its end, unread."""
        self.hints = {"published": 0, "lost": 0}
        self.events = {"published": 0, "skipped_not_connected": 0, "failed": 0}
        self.copies_behind = 0
        """Environments whose copy for other programs is not complete now."""
        self.copies_mended = 0
        """Values of somebody else that were found in copies, and replaced."""


class NotifyingStore:
    """A store that sends a hint after each commit, and to `events` what `describe` makes of it. Leaving `async with` waits for
    what is being sent, events for `SENDING_SECONDS` at most."""

    def __init__(
        self,
        store: RevisionedStore,
        hints: ChangeHints,
        events: ChangeEvents | None = None,
        describe: Describe | None = None,
    ) -> None:
        self._store = store
        self._hints = hints
        self._announced: dict[str, Version] = {}
        self._pending: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending: set[str] = set()
        self.tally = StoreCounts()
        self._announcing = (
            None
            if events is None or describe is None
            else Announcing(store, events, describe, self.tally.events)
        )
        self._is_announcing = False
        self._refuses = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._announcing is not None:
            self._announcing.hurry()
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
            self._start(self._after_a_cancelled_commit(bucket, writes))
            raise
        except OutcomeUnknown as error:
            self.tally.commits["failed"] += 1
            self._refused(error)
            self._notify(bucket)
            raise
        except Conflict:
            self.tally.commits["conflict"] += 1
            raise
        except Exception as error:
            self.tally.commits["failed"] += 1
            self._refused(error)
            raise
        self.tally.commits["committed"] += 1
        if self._announced.get(bucket) != version:
            if self._refuses:
                self._refuses = False
                log.info("the store takes commits again", extra=event("store_commits_again"))
            self._announced[bucket] = version
            self._notify(bucket)
        self._announce(bucket, version, writes)
        return version

    def _refused(self, error: Exception) -> None:
        """Log the first commit of several that fail."""
        if not self._refuses:
            self._refuses = True
            log.warning("the store takes no commits: %s", error_text(error), extra=event("store_refuses"))

    def _announce(self, bucket: str, version: Version, writes: Mapping[str, bytes | None]) -> None:
        if self._announcing is None or not self._announcing.add(bucket, version, writes):
            return
        if not self._is_announcing:
            self._is_announcing = True
            self._start(self._send_events(self._announcing))

    async def _send_events(self, announcing: Announcing) -> None:
        try:
            await announcing.send()
        finally:
            self._is_announcing = False

    def _notify(self, bucket: str) -> None:
        self._pending.add(bucket)
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
                self._pending.discard(bucket)
                self.tally.hints["published" if await self._is_published(bucket) else "lost"] += 1
        finally:
            self._sending.discard(bucket)

    async def _is_published(self, bucket: str) -> bool:
        try:
            async with asyncio.timeout(SENDING_SECONDS):
                await self._hints.publish(bucket)
        except Exception as error:  # whatever a transport raises: readers also look without a hint
            log.warning(
                "the hint for bucket %r was lost: %s",
                bucket,
                error_text(error),
                extra=event("hint_lost", bucket=bucket),
            )
            return False
        return True

    async def _after_a_cancelled_commit(self, bucket: str, writes: Mapping[str, bytes | None]) -> None:
        """Notify when the cancelled commit has ended. An empty commit writes nothing and returns after it."""
        with suppress(Unavailable):
            self._announce(bucket, await self._store.commit(bucket, {}), writes)
        self._notify(bucket)
