"""One source gives at most one generation, with one server or many: read, adopt, or commit with compare-and-set."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import msgspec

from cfgsync_core import Conflict, RevisionedStore, Version

from .generation import Generation, Head, Prepared, Source
from .generations_held import (
    BUCKET,
    CLAIM,
    CURRENT,
    DELIVERED,
    PAST,
    PREVIOUS,
    Claim,
    HeldGenerations,
    past_key,
)


class Publisher(HeldGenerations):
    """The generations of one store, and the one way in which new ones, and claims, come into it."""

    def __init__(
        self, store: RevisionedStore, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        super().__init__(store)
        self._clock = clock
        self.made = 0

    async def open(self, revision: str | None) -> None:
        """Load what is served, then claim if `revision` differs from the last claim's (None: never claim)."""
        self._revision = revision
        await self.reload()
        while revision is not None and revision != self.claim.revision:
            try:
                await self._claim(Claim(self.claim.number + 1, revision))
            except Conflict:
                await self.reload()

    async def renew(self, accepts_shrink: bool = False) -> Claim:
        """Make a claim by hand: the next run makes one new generation of everybody. Raises `Unavailable` and its kin.

        A server that was superseded takes the word back with its own revision.
        """
        while True:
            revision = self.claim.revision if self._revision is None else self._revision
            try:
                return await self._claim(Claim(self.claim.number + 1, revision, accepts_shrink))
            except Conflict:
                await self.reload()

    async def _claim(self, claim: Claim) -> Claim:
        version = await self._store.commit(
            BUCKET, {CLAIM: msgspec.json.encode(claim)}, expected={CLAIM: self._claim_revision}
        )
        if self._committed(version):
            self._claim_revision = version.revision
            self.claim, self.mine = claim, claim.number
        return claim

    async def publish(
        self, prepared: Prepared, source: Source, allowed: Callable[[Generation], Awaitable[None]]
    ) -> Generation | None:
        """The generation that stands for `source`: adopted, or committed from these artifacts, the same ones at each
        try. None when another source stands that is neither before nor after: take a new snapshot.

        `allowed` is asked before other artifacts follow a generation, unless the claim accepts what comes first.
        Raises what it raises, and `Unavailable` and its kin.
        """
        while True:
            current = self.current
            if current is not None and current.source.covers(source):
                return current
            if source.claim < self.claim.number or (
                current is not None and not source.covers(current.source)
            ):
                return None
            moved = current is not None and current.map_key == prepared.map_key
            if current is not None and not moved and not self._accepts_after(current):
                claim = self.claim
                await allowed(current)
                if self.current is not current or self.claim != claim:
                    continue  # another server's was read meanwhile: what was decided is about the one before
            number = 1 if current is None else current.number + (0 if moved else 1)
            at_ms = current.at_ms if current is not None and moved else self._clock()
            head = Head(
                number,
                source,
                prepared.map_key,
                at_ms,
                len(prepared.nodes),
                tuple(sorted(prepared.replaced)),
            )
            try:
                return await self._commit(prepared, head, moved)
            except Conflict:
                await self.reload()

    def _accepts_after(self, current: Generation) -> bool:
        """True while the active claim accepts a shrink and has no generation yet: once."""
        return self.claim.accepts_shrink and current.source.claim < self.claim.number

    async def delivered(self, generation: Generation) -> None:
        """Remember that the sink has this generation."""
        await self._store.commit(BUCKET, {DELIVERED: generation.text.encode()})
        self.last_delivered = generation.text

    async def _commit(self, prepared: Prepared, head: Head, moved: bool) -> Generation:
        current = self.current
        held = current.blobs if current is not None else frozenset()
        blobs = frozenset(prepared.blobs)
        writes: dict[str, bytes | None] = {CURRENT: msgspec.json.encode(head)}
        if not moved:
            writes.update((key, value) for key, value in prepared.blobs.items() if key not in held)
            if current is not None:
                writes[PREVIOUS] = past = msgspec.json.encode(current.head)
                writes[past_key(current.number)] = past
            stale = self.previous.blobs if self.previous is not None else frozenset()
            writes.update((key, None) for key in stale if key not in held and key not in blobs)
        expected = {CURRENT: self._current_revision, CLAIM: self._claim_revision}
        version = await self._store.commit(BUCKET, writes, expected=expected)
        generation = Generation(
            f"{version.epoch}.{head.number}",
            head.number,
            head.source,
            prepared.nodes,
            blobs,
            head.map_key,
            head.at_ms,
            prepared.replaced,
        )
        if not moved:
            self.made += 1
        if self._committed(version):
            self._current_revision = version.revision
            if not moved:
                self.previous = current
                if current is not None:
                    self.past[current.number % PAST] = current.head
            self.current = generation
        return generation

    def _committed(self, version: Version) -> bool:
        """A commit of ours made this version. False when a later one has been read meanwhile, which holds it too."""
        held = self.held
        if held is not None and version <= held:
            return False
        if held is None or (held.epoch or version.epoch, held.revision + 1) == version:
            self.held = version  # else another server's commit is between, and is still to be read
        return True
