"""One source gives at most one generation, with one server or many: read, adopt, or commit with compare-and-set."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import msgspec

from cfgsync_core import Conflict, NodeArtifactsPayload, Ready, RevisionedStore
from cfgsync_core.follow import BucketMirror, OtherServers

from .generation import Generation, Head, Prepared, Source, generation_of

BUCKET = "generations"
CURRENT, PREVIOUS, CLAIM, DELIVERED = "current", "previous", "claim", "delivered"
STABLE = "stable"
PAST = 100
"""The store keeps the heads of so many earlier generations, in a ring, without their files."""


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which program decides: the last claim is the active one. Number 0 and revision `""` before the first claim. With
    `accepts_shrink`, the shrink guard does not check the first generation of the claim, and with `at_once` nodes take no
    turns for it. One that `reverts` has the content of the generation of that number, and no other: it is frozen."""

    number: int = 0
    revision: str = ""
    accepts_shrink: bool = False
    at_once: bool = False
    reverts: int = 0


class Publisher(BucketMirror[bytes]):
    """The mirror of the generations, which also commits new ones, and claims.

    `current` is the last generation that this or another server committed, `previous` the one before it, `stable` the last
    one that a whole rollout came through. `mine` is the last claim with this server's revision, for which it publishes. `made` counts the generations that this server
    has committed. `on_adopted` is called after another server's commits were read.
    """

    def __init__(
        self,
        store: RevisionedStore,
        *,
        revision: str | None = None,
        on_adopted: Callable[[], object] = lambda: None,
        others: OtherServers | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`revision` is the version of the program that decides; None: this process never claims."""
        super().__init__(store, BUCKET, bytes, bytes, on_change=self._changed, others=others, whole=True)
        self._revision = revision
        self._on_adopted = on_adopted
        self._clock = clock
        self.current: Generation | None = None
        self.previous: Generation | None = None
        self.stable: Generation | None = None
        self.claim = Claim()
        self.mine = 0
        self.made = 0

    async def open(self) -> None:
        """Read the bucket, then make a claim if the last claim has another revision."""
        await super().open()
        while self._revision is not None and self._revision != self.claim.revision:
            try:
                await self._claim(Claim(self.claim.number + 1, self._revision))
            except Conflict:
                continue  # the other server's claim has been read

    @property
    def last_delivered(self) -> str | None:
        """The last generation that the sink has received."""
        found = self.entries.get(DELIVERED)
        return None if found is None else found.decode()

    def heads(self) -> list[Head]:
        """The heads in the store, newest first, the current one included."""
        past = (self.entries.get(past_key(slot)) for slot in range(PAST))
        found = [msgspec.json.decode(head, type=Head) for head in past if head is not None]
        held = {head.number: head for head in found}
        held.update((one.number, one.head) for one in self._kept())
        return [held[number] for number in sorted(held, reverse=True)]

    def numbered(self, number: int) -> Generation | None:
        """The generation of this number, if it is the current, the previous or the stable one."""
        return next((one for one in self._kept() if one.number == number), None)

    def named(self, text: str) -> Generation | None:
        """The generation with this `text`, if it is the current or the previous one."""
        return next(
            (one for one in (self.current, self.previous) if one is not None and one.text == text), None
        )

    def given(self, identifier: str) -> Ready | None:
        """What the current generation gives a node."""
        current = self.current
        payload = None if current is None else current.nodes.get(identifier)
        return None if current is None or payload is None else Ready(payload, current.text)

    async def renew(self, accepts_shrink: bool = False, at_once: bool = False) -> Claim:
        """Make a new claim: the next run makes a new generation for all nodes. Raises `Unavailable` and its subclasses.

        A server that another one has superseded becomes the active one again.
        """
        while True:
            try:
                return await self._claim(self._next_claim(accepts_shrink, at_once))
            except Conflict:
                continue

    async def revert(self, to: Generation) -> Generation | None:
        """Make a claim that reverts, and its generation: the content of `to`, in one commit. None when another server has
        published or claimed meanwhile. Raises `Unavailable` and its subclasses."""
        current = self.current
        assert current is not None  # `to` is kept
        claim = msgspec.structs.replace(self._next_claim(), reverts=to.number)
        source = msgspec.structs.replace(to.source, claim=claim.number)
        prepared = Prepared.from_blobs(to.map_key, self.entries)
        head = msgspec.structs.replace(
            to.head, number=current.number + 1, source=source, at_ms=self._clock(), reverts=to.number
        )
        try:
            made = await self._commit(prepared, head, moved=False, claim=claim)
        except Conflict:
            return None
        return made

    async def keep(self, stable: Generation) -> None:
        """A whole rollout came through this generation, which is kept until a later one did. Nothing happens unless it is
        the current or the previous one. Raises `Unavailable` and its subclasses."""
        if self.stable is not None and self.stable.text == stable.text:
            return
        if stable is not self.current and stable is not self.previous:
            return
        kept = stable.blobs.union(*(one.blobs for one in (self.current, self.previous) if one is not None))
        stale = self.stable.blobs - kept if self.stable is not None else frozenset()
        writes: dict[str, bytes | None] = {STABLE: msgspec.json.encode(stable.head), **dict.fromkeys(stale)}
        try:
            version = await self.commit(writes, expected=self._expected(CURRENT, STABLE))
        except Conflict:
            return  # it is asked for again after what was read
        if version == self.version:
            self.stable = stable

    def _next_claim(self, accepts_shrink: bool = False, at_once: bool = False) -> Claim:
        revision = self.claim.revision if self._revision is None else self._revision
        return Claim(self.claim.number + 1, revision, accepts_shrink, at_once)

    async def publish(
        self, prepared: Prepared, source: Source, allowed: Callable[[Generation], Awaitable[None]]
    ) -> Generation | None:
        """The generation of `source`: another server's, or committed from these artifacts. None when `source` is
        outdated: take a new snapshot.

        `allowed` is called before other artifacts follow a generation, unless the claim accepts a shrink. Raises what
        it raises, and `Unavailable` and its subclasses.
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
                    continue  # another server's was read meanwhile, and the decision is about the one before
            number = 1 if current is None else current.number + (0 if moved else 1)
            at_ms = current.at_ms if current is not None and moved else self._clock()
            at_once = prepared.at_once or self._is_first_of(self.claim.at_once, current)
            head = Head(
                number,
                source,
                prepared.map_key,
                at_ms,
                len(prepared.nodes),
                tuple(sorted(prepared.replaced)),
                at_once or (current is not None and moved and current.at_once),
                current.reverts if current is not None and moved else 0,
            )
            try:
                return await self._commit(prepared, head, moved)
            except Conflict:
                continue  # the other server's generation or claim has been read

    async def continued(self, now: Source) -> None:
        """After a new epoch, commit that the current generation is still made from what it was made from: it is no new one. `now`
        is what a run would be made from. Raises `Unavailable` and its subclasses."""
        current = self.current
        if current is None or (source := current.source.in_epochs_of(now)) == current.source:
            return
        head = msgspec.structs.replace(current.head, source=source)
        with suppress(Conflict):  # another server has done it, or published
            await self._commit(Prepared.from_blobs(current.map_key, self.entries), head, moved=True)
            self._on_adopted()

    async def delivered(self, generation: Generation) -> None:
        """Remember that the sink has this generation."""
        await self.commit({DELIVERED: generation.text.encode()})

    def _accepts_after(self, current: Generation) -> bool:
        return self._is_first_of(self.claim.accepts_shrink, current)

    def _is_first_of(self, has: bool, current: Generation | None) -> bool:
        """True while the active claim `has` something and no generation yet."""
        return has and (current is None or current.source.claim < self.claim.number)

    async def _claim(self, claim: Claim) -> Claim:
        version = await self.commit({CLAIM: msgspec.json.encode(claim)}, expected=self._expected(CLAIM))
        if version == self.version:
            self.claim, self.mine = claim, claim.number
        return claim

    async def _commit(
        self, prepared: Prepared, head: Head, moved: bool, claim: Claim | None = None
    ) -> Generation:
        current = self.current
        held = current.blobs if current is not None else frozenset()
        blobs = frozenset(prepared.blobs)
        writes: dict[str, bytes | None] = {CURRENT: msgspec.json.encode(head)}
        if claim is not None:
            writes[CLAIM] = msgspec.json.encode(claim)
        if not moved:
            writes.update((key, value) for key, value in prepared.blobs.items() if key not in held)
            if current is not None:
                writes[PREVIOUS] = past = msgspec.json.encode(current.head)
                writes[past_key(current.number)] = past
            stale = self.previous.blobs if self.previous is not None else frozenset()
            stable = self.stable.blobs if self.stable is not None else frozenset()
            writes.update((key, None) for key in stale - held - blobs - stable)
        version = await self.commit(writes, expected=self._expected(CURRENT, CLAIM, STABLE))
        same = msgspec.structs.replace(prepared, nodes=_same_objects(prepared, current))
        generation = generation_of(version.epoch, head, same)
        if not moved:
            self.made += 1
        if version == self.version:
            if not moved:
                self.previous = current
            if claim is not None:
                self.claim, self.mine = claim, claim.number
            self.current = generation
        return generation

    def _expected(self, *keys: str) -> dict[str, int]:
        return {key: self._revisions.get(key, 0) for key in keys}

    def _kept(self) -> list[Generation]:
        return [one for one in (self.current, self.previous, self.stable) if one is not None]

    def _changed(self, writes: object) -> None:
        """Read what another server committed; this server's own commits are known."""
        if writes is not None:
            return
        claim = self.entries.get(CLAIM)
        self.claim = Claim() if claim is None else msgspec.json.decode(claim, type=Claim)
        if self._revision is None or self._revision == self.claim.revision:
            self.mine = self.claim.number
        self.current, self.previous = self._restored(CURRENT), self._restored(PREVIOUS)
        self.stable = self._restored(STABLE)
        self._on_adopted()

    def _restored(self, name: str) -> Generation | None:
        if name not in self.entries:
            return None
        head = msgspec.json.decode(self.entries[name], type=Head)
        return generation_of(self.version.epoch, head, Prepared.from_blobs(head.map_key, self.entries))


def past_key(number: int) -> str:
    return f"past/{number % PAST:02}"


def _same_objects(prepared: Prepared, current: Generation | None) -> Mapping[str, NodeArtifactsPayload]:
    """The payloads; an unchanged node keeps its object, so that its bytes are in memory once."""
    if current is None:
        return prepared.nodes
    held = current.nodes
    return {
        name: old if (old := held.get(name)) is not None and old.digest == payload.digest else payload
        for name, payload in prepared.nodes.items()
    }
