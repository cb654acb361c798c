"""One source gives at most one generation, with one server or many: read, adopt, or commit with compare-and-set."""

from __future__ import annotations

import msgspec

from cfgsync_core import BucketSnapshot, Conflict, RevisionedStore

from .generation import Generation, Head, Prepared, Source, restore

BUCKET = "generations"
CURRENT, PREVIOUS, CLAIM, DELIVERED = "current", "previous", "claim", "delivered"


class Claim(msgspec.Struct, frozen=True):
    """Whose program decides: the last claim is the active one. Number 0, revision `""` before the first."""

    number: int = 0
    revision: str = ""


class Publisher:
    """The generations of one store. `current` is the last one committed, by this server or another, and `previous` the
    one before it, which is kept as long."""

    def __init__(self, store: RevisionedStore) -> None:
        self._store = store
        self._current_revision = 0
        self._claim_revision = 0
        self.current: Generation | None = None
        self.previous: Generation | None = None
        self.claim = Claim()
        self.last_delivered: str | None = None

    async def open(self, revision: str | None) -> None:
        """Load what is served, then claim if `revision` differs from the last claim's (None: never claim)."""
        await self.reload()
        while revision is not None and revision != self.claim.revision:
            claim = Claim(self.claim.number + 1, revision)
            try:
                await self._store.commit(
                    BUCKET, {CLAIM: msgspec.json.encode(claim)}, expected={CLAIM: self._claim_revision}
                )
            except Conflict:
                await self.reload()
                continue
            await self.reload()
            return

    async def reload(self) -> None:
        """Read the bucket as one cut."""
        cut = await self._store.snapshot(BUCKET)
        assert isinstance(cut, BucketSnapshot)  # asked without a known version
        entries = {entry.key: entry.value for entry in cut.entries}
        revisions = {entry.key: entry.revision for entry in cut.entries}
        self._current_revision = revisions.get(CURRENT, 0)
        self._claim_revision = revisions.get(CLAIM, 0)
        self.claim = msgspec.json.decode(entries[CLAIM], type=Claim) if CLAIM in entries else Claim()
        self.last_delivered = entries[DELIVERED].decode() if DELIVERED in entries else None
        if CURRENT in entries:
            self.current = restore(
                cut.version.epoch, msgspec.json.decode(entries[CURRENT], type=Head), entries
            )
        if PREVIOUS in entries:
            self.previous = restore(
                cut.version.epoch, msgspec.json.decode(entries[PREVIOUS], type=Head), entries
            )

    async def publish(self, prepared: Prepared, source: Source) -> Generation | None:
        """The generation that stands for `source`: adopted, or committed from these artifacts, the same ones at each
        try. None when another source stands that is neither before nor after: take a new snapshot.

        Raises `Unavailable` and its kin.
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
            number = 1 if current is None else current.number + (0 if moved else 1)
            try:
                return await self._commit(prepared, Head(number, source, prepared.map_key), moved)
            except Conflict:
                await self.reload()

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
                writes[PREVIOUS] = msgspec.json.encode(Head(current.number, current.source, current.map_key))
            stale = self.previous.blobs if self.previous is not None else frozenset()
            writes.update((key, None) for key in stale if key not in held and key not in blobs)
        expected = {CURRENT: self._current_revision, CLAIM: self._claim_revision}
        version = await self._store.commit(BUCKET, writes, expected=expected)
        self._current_revision = version.revision
        if not moved:
            self.previous = current
        self.current = Generation(
            f"{version.epoch}.{head.number}", head.number, head.source, prepared.nodes, blobs, head.map_key
        )
        return self.current
