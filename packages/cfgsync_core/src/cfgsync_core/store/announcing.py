"""What a commit tells observers outside: each event is sent once, in the order of the revisions, and every one is counted.

Events are read from the store's history, which knows exactly what a commit wrote and when. They are best effort: a bus that
is slow or dead delays no writer, and no event waits for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Final, TypeAlias

from ..errors import Unavailable
from ..log_events import event
from ..text import error_text
from .contract import Change, Gap, RevisionedStore, Version
from .hints import ChangeEvents

Describe: TypeAlias = Callable[[str, Version, Change], Sequence[tuple[str, bytes]]]
"""The events of one commit, as subjects and bodies, from its bucket, its version and what it wrote. Fast, without I/O."""

SENDING_SECONDS: Final = 1.0
"""How long one hint or event may take before it counts as lost."""
MAX_WAITING: Final = 1_000
"""Commits whose events wait; the events of another one fail at once."""

_SENTENCES: Final = {
    "published": "events after commits are sent again",
    "skipped_not_connected": "events after commits are not sent, since the bus is not connected",
    "failed": "an event after a commit was lost",
}

log = logging.getLogger("cfgsync")


class Announcing:
    """The queue of events to `events`; `tally` counts them by outcome."""

    def __init__(
        self, store: RevisionedStore, events: ChangeEvents, describe: Describe, tally: dict[str, int]
    ) -> None:
        self._store = store
        self._events = events
        self._describe = describe
        self._tally = tally
        self._waiting: dict[str, dict[Version, int]] = {}  # how many events a commit has
        self._seen: dict[tuple[str, Version], None] = {}
        self._until = float("inf")
        self._last = "published"

    def add(self, bucket: str, version: Version, writes: Mapping[str, bytes | None]) -> bool:
        """Queue the events of a commit; True when there are some to `send`. A commit that changed nothing returns the version
        of an earlier one, which has its events already."""
        many = len(self._describe(bucket, version, Change(version.revision, "", 0, writes)))
        if not many or (bucket, version) in self._seen:
            return False
        self._seen[bucket, version] = None
        if len(self._seen) > 2 * MAX_WAITING:
            del self._seen[next(iter(self._seen))]
        if sum(map(len, self._waiting.values())) >= MAX_WAITING:
            self._failed(many, f"{MAX_WAITING} commits wait already")
            return False
        self._waiting.setdefault(bucket, {})[version] = many
        return True

    def hurry(self) -> None:
        """The server stops: what is not sent within `SENDING_SECONDS` from now fails."""
        self._until = asyncio.get_running_loop().time() + SENDING_SECONDS

    async def send(self) -> None:
        """Send what is queued, also what is queued meanwhile."""
        while self._waiting:
            bucket = next(iter(self._waiting))
            waiting = self._waiting.pop(bucket)
            for epoch, versions in groupby(sorted(waiting), key=lambda version: version.epoch):
                await self._send(bucket, epoch, {one.revision: waiting[one] for one in versions})

    async def _send(self, bucket: str, epoch: str, counts: dict[int, int]) -> None:
        try:
            changes = await self._store.changes(bucket, Version(epoch, min(counts) - 1))
            found = [] if isinstance(changes, Gap) else changes
            why = "the store's history does not have the commit"
        except Unavailable as error:
            found, why = [], error_text(error)
        for change in found:
            if counts.pop(change.revision, 0):
                described = self._describe(bucket, Version(epoch, change.revision), change)
                for number, (subject, body) in enumerate(described):
                    await self._announce(
                        subject, body, f"{change.commit_id}.{number}" if number else change.commit_id
                    )
        if counts:
            self._failed(sum(counts.values()), why)

    async def _announce(self, subject: str, body: bytes, identity: str) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._until:
            self._failed(1, "the server stops")
            return
        try:
            async with asyncio.timeout_at(min(self._until, loop.time() + SENDING_SECONDS)):
                outcome = await self._events.announce(subject, body, identity)
        except Exception as error:  # whatever a transport raises: observers can also read
            self._failed(1, error_text(error) or type(error).__name__)
            return
        self._tally[outcome] += 1
        log.debug(
            "event %s: %s", subject, outcome, extra=event("announced", subject=subject, outcome=outcome)
        )
        self._say(outcome, "")

    def _failed(self, many: int, why: str) -> None:
        self._tally["failed"] += many
        self._say("failed", why)

    def _say(self, outcome: str, why: str) -> None:
        """Log an outcome that is another than that of the event before."""
        if outcome == self._last:
            return
        self._last = outcome
        level = logging.INFO if outcome == "published" else logging.WARNING
        log.log(
            level,
            "%s%s",
            *(_SENTENCES[outcome], f": {why}" if why else ""),
            extra=event("events", outcome=outcome, why=why),
        )
