"""The generations of one store as a server holds them: what is served, what came before, and whose program decides."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cfgsync_core import BucketSnapshot, Change, RevisionedStore, Version

from .generation import Generation, Head, restore

BUCKET = "generations"
CURRENT, PREVIOUS, CLAIM, DELIVERED = "current", "previous", "claim", "delivered"
PAST = 100
"""So many heads of generations before the current one are kept, in a ring: without contents, for those who ask when."""


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose program decides: the last claim is the active one. Number 0, revision `""` before the first. The first
    generation of a claim with `accepts_shrink` may leave out what the guard would refuse."""

    number: int = 0
    revision: str = ""
    accepts_shrink: bool = False


class HeldGenerations:
    """`current` is the last generation committed, by this server or another, and `previous` the one before it, which is
    kept as long. Made to be read with `reload`, or followed (it is a `BucketHolder`)."""

    def __init__(self, store: RevisionedStore) -> None:
        self._store = store
        self._current_revision = 0
        self._claim_revision = 0
        self._revision: str | None = None  # of the program that decides here; None: nobody does
        self.held: Version | None = None
        """The bucket's version that all of this was read at, see `BucketHolder`."""
        self.current: Generation | None = None
        self.previous: Generation | None = None
        self.claim = Claim()
        self.mine = 0
        """The last claim whose revision is this server's: what it publishes for."""
        self.last_delivered: str | None = None
        self.past: dict[int, Head] = {}
        """The ring of heads; `heads()` has them in order."""

    def heads(self) -> list[Head]:
        """The heads that are still held, newest first, the current one's among them."""
        held = {head.number: head for head in self.past.values()}
        held.update((one.number, one.head) for one in (self.previous, self.current) if one is not None)
        return [held[number] for number in sorted(held, reverse=True)]

    def numbered(self, number: int) -> Generation | None:
        """The generation of this number, while its files are held."""
        both = (self.current, self.previous)
        return next((one for one in both if one is not None and one.number == number), None)

    def stands(self, generation: str) -> bool:
        """Is this the current generation, or the previous one?"""
        return any(one is not None and one.text == generation for one in (self.current, self.previous))

    async def reload(self) -> None:
        """Read the bucket as one cut."""
        cut = await self._store.snapshot(BUCKET)
        assert isinstance(cut, BucketSnapshot)  # asked without a known version
        self.take(cut)

    def take(self, cut: BucketSnapshot) -> None:
        """Hold what this cut says, unless what is held is as new."""
        if self.held is not None and cut.version <= self.held:
            return
        self.held = cut.version
        entries = {entry.key: entry.value for entry in cut.entries}
        revisions = {entry.key: entry.revision for entry in cut.entries}
        self._current_revision = revisions.get(CURRENT, 0)
        self._claim_revision = revisions.get(CLAIM, 0)
        self.claim = msgspec.json.decode(entries[CLAIM], type=Claim) if CLAIM in entries else Claim()
        if self._revision is None or self._revision == self.claim.revision:
            self.mine = self.claim.number
        self.last_delivered = entries[DELIVERED].decode() if DELIVERED in entries else None
        self.past = {
            slot: msgspec.json.decode(entries[key], type=Head)
            for slot in range(PAST)
            if (key := past_key(slot)) in entries
        }
        self.current = _restored(CURRENT, cut.version.epoch, entries)
        self.previous = _restored(PREVIOUS, cut.version.epoch, entries)

    def holds(self, cut: BucketSnapshot) -> bool:
        """See `BucketHolder`."""
        revisions = {entry.key: entry.revision for entry in cut.entries}
        return self._current_revision == revisions.get(CURRENT, 0) and self._claim_revision == revisions.get(
            CLAIM, 0
        )

    def step(self, version: Version, change: Change) -> None:
        raise NotImplementedError("generations are taken whole")


def past_key(number: int) -> str:
    return f"past/{number % PAST:02}"


def _restored(name: str, epoch: str, entries: Mapping[str, bytes]) -> Generation | None:
    if name not in entries:
        return None
    return restore(epoch, msgspec.json.decode(entries[name], type=Head), entries)
