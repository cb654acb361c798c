"""What each node said it has applied, durably: a restart makes no fleet look behind, since who is unchanged owes nothing.

Entries of a bucket of their own, so that an acknowledgement never makes a revision of the registrations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from cfgsync_core import Acknowledgement, BucketSnapshot, Change, RevisionedStore, Version

BUCKET = "acknowledgements"


class Failure(msgspec.Struct, frozen=True, gc=False):
    """The node could not apply this generation's files. `reason` is its own words, None when it gave none."""

    generation: str
    digest: str
    reason: str | None = None

    @property
    def sentence(self) -> str:
        """`generation 12: /srv is read-only`."""
        return f"generation {self.generation.rpartition('.')[2]}: {self.reason or 'no reason given'}"


class Acknowledged(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one node has said: the files (`digest`) that it applied last, as which generation, and its failure since."""

    generation: str | None = None
    digest: str | None = None
    failure: Failure | None = None

    def after(self, said: Acknowledgement, is_given: bool = True) -> Acknowledged:
        """What is known when the node has said this too: a failure leaves what was applied before in place. Files that
        its generation does not give the node (`is_given`) are those of no generation."""
        if said.status == "applied":
            return Acknowledged(said.generation if is_given else None, said.digest)
        return Acknowledged(self.generation, self.digest, Failure(said.generation, said.digest, said.reason))

    def has(self, digest: str) -> bool:
        """Whether it has applied these files, and has not refused or failed to apply the same ones since (a restored
        server offers again what a node had before, and the node refuses it)."""
        return self.digest == digest and (self.failure is None or self.failure.digest != digest)


NOTHING = Acknowledged()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Acknowledged).decode


class Acknowledgements:
    """The acknowledgements of one store. `await open()` first. `changes` counts how often what is known has moved, and
    `on_change` is called after each time."""

    def __init__(self, store: RevisionedStore, *, on_change: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._on_change = on_change
        self._held: dict[str, Acknowledged] = {}
        self._revisions: dict[str, int] = {}
        self._coming: dict[str, Acknowledged] = {}  # on its way to the store: the next one builds on it
        self._tasks: set[asyncio.Task[None]] = set()
        self._read_at: Version | None = None
        self.changes = 0

    async def open(self, is_registered: Callable[[str], bool]) -> None:
        """Read the bucket once, and drop what nodes said that a crash kept from being forgotten when they left."""
        cut = await self._store.snapshot(BUCKET)
        assert isinstance(cut, BucketSnapshot)  # asked without a known version
        self.take(cut)
        await self.forget([name for name in self._held if not is_registered(name)])

    @property
    def held(self) -> Version | None:
        """See `BucketHolder`: the version that was read. Own commits come again, which changes nothing."""
        return self._read_at

    def take(self, snapshot: BucketSnapshot) -> None:
        """See `BucketHolder`."""
        self._held = {entry.key: _decode(entry.value) for entry in snapshot.entries}
        self._revisions = {entry.key: entry.revision for entry in snapshot.entries}
        self._read_at = snapshot.version
        self._moved()

    def step(self, version: Version, change: Change) -> None:
        """See `BucketHolder`."""
        moved = False
        for identifier, value in change.writes.items():
            if value is None:
                moved |= self._held.pop(identifier, None) is not None
                self._revisions.pop(identifier, None)
            elif change.revision > self._revisions.get(identifier, 0):  # one's own comes again: no news
                self._held[identifier] = _decode(value)
                self._revisions[identifier] = change.revision
                moved = True
        self._read_at = version
        if moved:
            self._moved()

    def holds(self, snapshot: BucketSnapshot) -> bool:
        """See `BucketHolder`."""
        return self._held == {entry.key: _decode(entry.value) for entry in snapshot.entries}

    def of(self, identifier: str) -> Acknowledged:
        """What this node has said."""
        return self._held.get(identifier, NOTHING)

    async def record(self, said: Acknowledgement, *, is_given: bool = True) -> None:
        """Durable on return; what says nothing new commits nothing. Raises `Unavailable` and its kin."""
        known = self._held.get(said.identifier, NOTHING)
        now = self._coming.get(said.identifier, known).after(said, is_given)
        if now == known and said.identifier not in self._coming:
            return
        self._coming[said.identifier] = now
        # a node that goes away while it is written has said it all the same
        task = asyncio.create_task(self._write(said.identifier, now), name="cfgsync-acknowledgement")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def forget(self, identifiers: Iterable[str]) -> None:
        """These nodes have left: what they said says nothing about who comes under their names."""
        gone = [name for name in identifiers if name in self._held or name in self._coming]
        if not gone:
            return
        await self._store.commit(BUCKET, dict.fromkeys(gone))
        for name in gone:
            self._held.pop(name, None)
            self._revisions.pop(name, None)
        self._moved()

    async def _write(self, identifier: str, now: Acknowledged) -> None:
        try:
            version = await self._store.commit(BUCKET, {identifier: _encode(now)})
        finally:
            if self._coming.get(identifier) is now:
                del self._coming[identifier]
        if version.revision >= self._revisions.get(identifier, 0):  # answers may come in another order
            self._held[identifier] = now
            self._revisions[identifier] = version.revision
            self._moved()

    def _moved(self) -> None:
        self.changes += 1
        self._on_change()
