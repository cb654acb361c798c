"""Registrations are entries of one bucket; this is the server's view of it, moved only by what is committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from cfgsync_core import (
    NEVER,
    BucketSnapshot,
    Change,
    Conflict,
    Gap,
    NodeRegistration,
    RevisionedStore,
    Unchanged,
    Version,
    decode_stored,
    encode_registration,
)

from ..application.snapshot import RegistrationSnapshot

BUCKET = "registrations"


class Registry:
    """The registrations of one store. `await open()` first; `on_change` is called after the view has moved."""

    def __init__(
        self,
        store: RevisionedStore,
        *,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._on_change = on_change
        self._clock = clock
        self._refreshing = asyncio.Lock()
        self._nodes: dict[str, NodeRegistration] = {}
        self._revisions: dict[str, int] = {}
        self._leaving: set[str] = set()
        self._order: list[str] | None = None
        self._touched: dict[str, None] = {}  # since the last snapshot, which was taken at:
        self._taken_at = NEVER
        self._is_open = False
        self.version = NEVER
        self.first_at: float | None = None
        self.changed_at: float | None = None

    async def open(self) -> None:
        """Read the bucket once."""
        self._take(await self._store.snapshot(BUCKET))

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._nodes

    def get(self, identifier: str) -> NodeRegistration | None:
        """The committed registration of a node."""
        return self._nodes.get(identifier)

    def identifiers(self) -> list[str]:
        """Every registered identifier, sorted: one list until who is registered changes."""
        if self._order is None:
            self._order = sorted(self._nodes)
        return self._order

    def revision_of(self, identifier: str) -> int | None:
        """The revision that wrote a node's registration, None when it is not registered."""
        return self._revisions.get(identifier)

    async def register(self, registration: NodeRegistration) -> Version:
        """Commit the registration unless it is there word for word; the view holds it on return."""
        identifier = registration.identifier
        if self._nodes.get(identifier) == registration and identifier not in self._leaving:
            return self.version
        version = await self._store.commit(BUCKET, {identifier: encode_registration(registration)})
        await self._committed(version, {identifier: registration})
        return version

    async def remove(self, identifiers: Iterable[str]) -> Version:
        """Delete these registrations in one commit; the view is without them on return.

        Raises `Conflict` when another server has changed one: the view has caught up then, and nobody was removed.
        """
        revisions = {name: self._revisions[name] for name in identifiers if name in self._revisions}
        if not revisions:
            return self.version
        # who registers from now on commits after this, also with equal words: a 202 is never for what is then deleted
        self._leaving.update(revisions)
        try:
            version = await self._store.commit(BUCKET, dict.fromkeys(revisions), expected=revisions)
        except Conflict:
            await self._refresh(await self._store.version(BUCKET))
            raise
        finally:
            self._leaving.difference_update(revisions)
        await self._committed(version, dict.fromkeys(revisions))
        return version

    async def _committed(self, version: Version, writes: Mapping[str, NodeRegistration | None]) -> None:
        """Take up what this server has committed, or catch up when something else came between."""
        if version.revision == self.version.revision + 1 and version.epoch == (
            self.version.epoch or version.epoch
        ):
            for identifier, registration in writes.items():
                self._apply(identifier, registration, version.revision)
            self._moved(version)
        elif version != self.version:
            await self._refresh(version)

    def registered(self) -> tuple[Version, dict[str, NodeRegistration]]:
        """The same cut for who only looks: it is no snapshot that a run's next one follows."""
        return self.version, self._nodes.copy()

    def snapshot(self) -> RegistrationSnapshot:
        """The cut at `version`. Commits are applied in one step with their version, and this copies in one step, so no
        entry is newer than the version and none is left out (INV-18)."""
        cut = RegistrationSnapshot(
            self._nodes.copy(),
            version=self.version,
            first_at=self.first_at,
            changed_at=self.changed_at,
            after=self._taken_at,
            touched=self._touched,
        )
        self._touched, self._taken_at = {}, self.version
        return cut

    async def _refresh(self, at_least: Version) -> None:
        """Catch up with the store: commits of this process that came back in another order, or another server's."""
        async with self._refreshing:
            if self.version.epoch == at_least.epoch and self.version.revision >= at_least.revision:
                return
            since = self.version
            changes = await self._store.changes(BUCKET, since)
            if self.version.epoch != since.epoch:
                return  # the whole of a new epoch was taken meanwhile
            if isinstance(changes, Gap) or not self.version.epoch:
                self._take(await self._store.snapshot(BUCKET))
                return
            for change in changes:
                if change.revision != self.version.revision + 1:
                    continue  # applied by its own caller while this read was under way
                self.step(Version(self.version.epoch, change.revision), change)

    @property
    def held(self) -> Version | None:
        """See `BucketHolder`: None until the bucket was read."""
        return self.version if self._is_open else None

    def take(self, snapshot: BucketSnapshot) -> None:
        """Hold exactly this, unless what is held is as new."""
        self._take(snapshot)

    def step(self, version: Version, change: Change) -> None:
        """Hold the next change of the bucket too."""
        for identifier, value in change.writes.items():
            self._apply(identifier, None if value is None else decode_stored(value), change.revision)
        self._moved(version)

    def holds(self, snapshot: BucketSnapshot) -> bool:
        """See `BucketHolder`."""
        return self._revisions == {entry.key: entry.revision for entry in snapshot.entries} and all(
            self._nodes[entry.key] == decode_stored(entry.value) for entry in snapshot.entries
        )

    def _apply(self, identifier: str, registration: NodeRegistration | None, revision: int) -> None:
        self._touched[identifier] = None
        if (registration is None) == (identifier in self._nodes):
            self._order = None
        if registration is None:
            self._nodes.pop(identifier, None)
            self._revisions.pop(identifier, None)
        else:
            self._nodes[identifier] = registration
            self._revisions[identifier] = revision

    def _moved(self, version: Version) -> None:
        self.version = version
        self.changed_at = self._clock()
        if self.first_at is None:
            self.first_at = self.changed_at
        self._on_change()

    def _take(self, snapshot: BucketSnapshot | Unchanged) -> None:
        assert isinstance(snapshot, BucketSnapshot)  # asked without a known version
        self._is_open = True
        if self.version >= snapshot.version:
            return
        self._touched, self._taken_at = {}, NEVER  # what changed is not known: the next snapshot is compared
        self._order = None
        self._nodes = {entry.key: decode_stored(entry.value) for entry in snapshot.entries}
        self._revisions = {entry.key: entry.revision for entry in snapshot.entries}
        if snapshot.version != NEVER:
            self._moved(snapshot.version)
