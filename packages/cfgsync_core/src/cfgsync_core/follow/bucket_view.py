"""A bucket as a reader sees it: replayed from its history if that is possible, else read whole, and checked either way.

The history is read from one revision before, so that it includes the reader's last commit. If that is another one now,
history was rewritten, and replaying would mix the two.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from ..errors import StoreDamaged
from ..store.contract import NEVER, BucketSnapshot, Change, Gap, RevisionedStore, Unchanged, Version
from .acceptance import ReadResult, Same, Steps, Whole
from .view import Ask

log = logging.getLogger("cfgsync.reconcile")


class BucketHolder(Protocol):
    """Keeps the entries of a bucket. Each call is one step of the event loop."""

    @property
    def held(self) -> Version | None:
        """The version of the entries, None before the first."""

    def take(self, snapshot: BucketSnapshot) -> None:
        """Replace all entries."""

    def step(self, version: Version, change: Change) -> None:
        """Apply the next change; the version is then this."""

    def holds(self, snapshot: BucketSnapshot) -> bool:
        """Whether the entries are those of this snapshot, which is of the same version."""


class BucketView:
    """`bucket` of `store` as a View of what `holder` holds. `replay=False` always reads it whole."""

    def __init__(
        self, store: RevisionedStore, bucket: str, holder: BucketHolder, *, replay: bool = True
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._holder = holder
        self._replay = replay
        self._joint: tuple[Version, str] | None = None  # the version compared last, and its commit's id

    @property
    def known(self) -> Version | None:
        return self._holder.held

    async def read(self, ask: Ask) -> ReadResult[BucketSnapshot]:
        """See `View`. Raises `Unavailable`; `StoreDamaged` for a snapshot whose digest is wrong."""
        known = None if ask.whole else ask.known
        if known is not None and self._replay:
            if known.epoch and self._joint is not None:
                steps = await self._steps(known)
                if steps is not None:
                    return steps
            known = None  # compare the content, even of the same version
        answer = await self._store.snapshot(self._bucket, known)
        if isinstance(answer, Unchanged):
            return Same(answer.version)
        if not answer.is_whole():
            raise StoreDamaged(
                f"bucket {self._bucket!r}: the digest does not match what was read",
                "run `cfgsync store check`",
            )
        if self._replay:
            self._joint = await self._read_joint(answer.version)
        return Whole(answer.version, answer.digest, answer)

    def same(self, whole: Whole[BucketSnapshot]) -> bool:
        return self._holder.holds(whole.content)

    async def apply(self, news: Whole[BucketSnapshot] | Steps | Same) -> None:
        if isinstance(news, Whole):
            self._holder.take(news.content)
        elif isinstance(news, Steps):
            for change in news.changes:
                version = Version(news.epoch, change.revision)
                self._holder.step(version, change)
                self._joint = (version, change.commit_id)

    async def _steps(self, known: Version) -> Steps | Same | None:
        """What the history has after `known`; None when it does not follow it."""
        before = Version(known.epoch, max(known.revision - 1, 0))
        changes = await self._store.changes(self._bucket, before)
        if isinstance(changes, Gap):
            changes = await self._store.changes(self._bucket, known)
            if isinstance(changes, Gap):
                return None
        elif known.revision and not self._joins_on(known, changes):
            return None
        later = tuple(change for change in changes if change.revision > known.revision)
        return Steps(known.epoch, later) if later else Same(known)

    async def _read_joint(self, version: Version) -> tuple[Version, str]:
        """The version and the id of its commit, "" when the history has dropped it."""
        before = Version(version.epoch, max(version.revision - 1, 0))
        changes = [] if version == NEVER else await self._store.changes(self._bucket, before)
        if isinstance(changes, Gap) or not changes or changes[0].revision != version.revision:
            return version, ""
        return version, changes[0].commit_id

    def _joins_on(self, known: Version, changes: Sequence[Change]) -> bool:
        """Whether the commit of `known` is still the one that was read."""
        if not changes or changes[0].revision != known.revision:
            return False
        found = changes[0].commit_id
        version, expected = self._joint or (known, "")
        if version == known and expected not in ("", found):
            log.error("bucket %r: history was rewritten at %s; reading it whole", self._bucket, known)
            return False
        self._joint = (known, found)  # also after the holder's own commits
        return True
