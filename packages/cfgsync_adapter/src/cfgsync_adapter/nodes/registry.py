"""The committed registrations of one store, in memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping

from cfgsync_core import NEVER, NodeRegistration, RevisionedStore, StoreFull, Version
from cfgsync_core.follow import BucketMirror, OtherServers
from cfgsync_core.log_events import event
from cfgsync_core.wire import MAX_REGISTRATIONS, decode_stored, encode_registration

from ..application.snapshot import RegistrationSnapshot

BUCKET = "registrations"

log = logging.getLogger("cfgsync")

Writes = Mapping[str, NodeRegistration | None] | None


class Registry(BucketMirror[NodeRegistration]):
    """The mirror of the registrations, which takes snapshots of them for the materializer."""

    def __init__(
        self,
        store: RevisionedStore,
        *,
        on_change: Callable[[Writes], object] = lambda writes: None,
        others: OtherServers | None = None,
        clock: Callable[[], float] = time.monotonic,
        most: int = MAX_REGISTRATIONS,
    ) -> None:
        super().__init__(
            store, BUCKET, decode_stored, encode_registration, on_change=self._changed, others=others
        )
        self._then = on_change
        self._clock = clock
        self._most = most
        self._leaving: set[str] = set()
        self._order: list[str] | None = None
        self._touched: dict[str, None] = {}  # since the last snapshot, which was taken at:
        self._taken_at = NEVER
        self._loopback: set[str] = set()
        self._has_warned = False
        self.first_at: float | None = None
        self.changed_at: float | None = None
        self._unpublished_at: float | None = None  # the first change that no generation holds
        self._after_cut_at: float | None = None  # the first change since the last snapshot
        self._cut = NEVER  # the version of that snapshot

    def tells_loopback(self, identifier: str) -> bool:
        """True when this node's address is one that only its own machine can reach, and nodes on other machines get it."""
        return identifier in self._loopback and len(self._loopback) < len(self.entries)

    @property
    def told_loopback(self) -> str | None:
        """A node for which `tells_loopback` holds."""
        # asked at each registration: no loop over a fleet that is all on one machine
        return next(iter(self._loopback), None) if len(self._loopback) < len(self.entries) else None

    def warn_of_loopback(self) -> None:
        """Log once that there is such a node."""
        if self._has_warned or (name := self.told_loopback) is None:
            return
        self._has_warned = True
        log.warning(
            "%s has a loopback address (%s), which nodes on other machines cannot reach:"
            " let it ask this server by another address, or give it --ip",
            name,
            self.entries[name].ip,
            extra=event("loopback_told", identifier=name),
        )

    def identifiers(self) -> list[str]:
        """Every registered identifier, sorted. The list is the same object until a node joins or leaves."""
        if self._order is None or len(self._order) != len(self.entries):
            self._order = sorted(self.entries)
        return self._order

    async def register(self, registration: NodeRegistration) -> Version:
        """Commit the registration unless the stored one is equal; the registry has it on return.

        Raises `StoreFull` for one more than the limit.
        """
        identifier = registration.identifier
        known = self.entries.get(identifier)
        if known == registration and identifier not in self._leaving:
            return self.version
        if known is None and len(self.entries) >= self._most:
            raise StoreFull(
                f"{self._most:,} nodes are registered, and this server takes no more; remove those that are gone:"
                " cfgsync node evict ID"
            )
        return await self.commit({identifier: registration})

    async def remove(self, identifiers: Iterable[str]) -> Version:
        """Delete these registrations in one commit; the registry does not have them on return.

        Raises `Conflict` when another server has changed one, which the registry has then read: no node was removed.
        """
        revisions = {name: self._revisions[name] for name in identifiers if name in self._revisions}
        if not revisions:
            return self.version
        # A registration that arrives during the removal must commit after it, even if it is unchanged; otherwise a node
        # could get a 202 for an entry that is then deleted.
        self._leaving.update(revisions)
        try:
            return await self.commit(dict.fromkeys(revisions), expected=revisions)
        finally:
            self._leaving.difference_update(revisions)

    def registered(self) -> tuple[Version, dict[str, NodeRegistration]]:
        """The registrations at `version`, for a reader: the next run's snapshot still has the changes since the last run."""
        return self.version, self.entries.copy()

    def snapshot(self) -> RegistrationSnapshot:
        """The registrations at `version` for a run, copied in one step: exactly the entries of that version (INV-18)."""
        cut = RegistrationSnapshot(
            self.entries.copy(),
            version=self.version,
            first_at=self.first_at,
            changed_at=self.changed_at,
            unpublished_at=self._unpublished_at,
            after=self._taken_at,
            touched=self._touched,
        )
        self._touched, self._taken_at = {}, self.version
        self._cut, self._after_cut_at = self.version, None
        return cut

    def published(self, version: Version) -> None:
        """A generation holds the registrations of this version."""
        if version >= self.version:
            self._unpublished_at = None
        elif version >= self._cut:
            self._unpublished_at = self._after_cut_at

    def _changed(self, writes: Writes) -> None:
        if writes is None:
            # the changes are not known: the next snapshot is compared with the last one
            self._touched, self._taken_at = {}, NEVER
            self._order = None
            self._loopback = {name for name, one in self.entries.items() if _is_loopback(one.ip)}
        else:
            for identifier, registration in writes.items():
                self._touched[identifier] = None
                if registration is None:
                    self._order = None
                if registration is not None and _is_loopback(registration.ip):
                    self._loopback.add(identifier)
                else:
                    self._loopback.discard(identifier)
        self.changed_at = now = self._clock()
        self.first_at = now if self.first_at is None else self.first_at
        self._unpublished_at = now if self._unpublished_at is None else self._unpublished_at
        self._after_cut_at = now if self._after_cut_at is None else self._after_cut_at
        self._then(writes)


def _is_loopback(ip: str) -> bool:
    return ip.startswith("127.") or ip == "::1"
