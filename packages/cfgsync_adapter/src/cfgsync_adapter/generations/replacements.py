"""Replacements are entries of a bucket of their own: what an operator gives a node in place of the materializer's files.

One stands until another replaces it or an empty one takes it away, also while its node is not registered, and survives
restarts and `evict`. It takes effect in the next generation, whose source names the version of this bucket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping
from hashlib import sha256

import msgspec

from cfgsync_artifacts import ArtifactSet, DuplicatePath, digest_of
from cfgsync_core import (
    BLOB,
    NEVER,
    Conflict,
    NodeArtifactsPayload,
    RevisionedStore,
    Unchanged,
    Version,
    decode_files,
    encode_files,
    first_extended,
    paths_of,
)

from .deliverable import Deliverable
from .generation import Mapped, NodeMap, Prepared, refuse_beyond

BUCKET = "replacements"
COUNTER = "#"  # no identifier; written by each commit, so that two servers never take each other's blob away


class Replaced(msgspec.Struct, frozen=True):
    """The files of one replacement, encoded, and what their digest is made of."""

    key: str
    encoded: bytes
    manifest: bytes
    extended: str | None

    @classmethod
    def of(cls, files: ArtifactSet) -> Replaced:
        encoded = encode_files(files)
        return cls(BLOB + sha256(encoded).hexdigest(), encoded, files.manifest, first_extended(files))


class Replacements:
    """The replacements of one store. `await open()` first; `standing` is a new mapping after each change."""

    def __init__(self, store: RevisionedStore) -> None:
        self._store = store
        self._writing = asyncio.Lock()
        self._counter_revision = 0
        self._is_open = False
        self.version = NEVER
        self.standing: Mapping[str, Replaced] = {}

    def __contains__(self, identifier: object) -> bool:
        return identifier in self.standing

    async def open(self) -> None:
        """Read the bucket, unless it is as it was."""
        cut = await self._store.snapshot(BUCKET, None if self.version == NEVER else self.version)
        self._is_open = True
        if isinstance(cut, Unchanged) or cut.version == self.version:
            return
        entries = {entry.key: entry.value for entry in cut.entries}
        held = {part.key: part for part in self.standing.values()}
        standing: dict[str, Replaced] = {}
        for entry in cut.entries:
            if entry.key == COUNTER:
                self._counter_revision = entry.revision
            elif not entry.key.startswith(BLOB):
                key = entry.value.decode()
                part = held.get(key)
                if part is None:
                    part = held[key] = await asyncio.to_thread(Replaced.of, decode_files(entries[key]))
                standing[entry.key] = part
        self.standing, self.version = standing, cut.version

    @property
    def held(self) -> Version | None:
        """The version that `standing` was read at, None before `open`."""
        return self.version if self._is_open else None

    async def refresh(self) -> None:
        """Read what other servers have committed, not while something is committed here."""
        async with self._writing:
            await self.open()

    async def put(self, identifier: str, files: ArtifactSet) -> Version:
        """Give this node these files; none take its replacement away. Durable on return.

        Raises `InvalidArtifact` for what no node takes; `PayloadTooLarge`; `Unavailable` and its kin.
        """
        part = await asyncio.to_thread(_delivered, identifier, files) if len(files) else None
        if part is not None:
            refuse_beyond(f"the replacement for node {identifier}", len(part.encoded))
        async with self._writing:
            while True:
                before = self.standing.get(identifier)
                if before == part:
                    return self.version
                after = {name: kept for name, kept in self.standing.items() if name != identifier}
                writes: dict[str, bytes | None] = {COUNTER: b"%d" % (self._counter_revision + 1)}
                if part is None:
                    writes[identifier] = None
                else:
                    after[identifier] = part
                    writes[part.key] = part.encoded
                    writes[identifier] = part.key.encode()
                if before is not None and before not in after.values():
                    writes[before.key] = None
                try:
                    version = await self._store.commit(
                        BUCKET, writes, expected={COUNTER: self._counter_revision}
                    )
                except Conflict:
                    await self.open()
                    continue
                self._counter_revision = version.revision
                self.standing, self.version = after, version
                return version


def _delivered(identifier: str, files: ArtifactSet) -> Replaced:
    Deliverable(ArtifactSet()).check(identifier, files)
    return Replaced.of(files)


def overlay(made: Prepared, standing: Mapping[str, Replaced], registered: Container[str]) -> Prepared:
    """`made` with the replacements of those who are registered or in it; shared files still follow.

    Raises `DuplicatePath` for a path that is a shared one's too, `InvalidArtifact`, `PayloadTooLarge`.
    """
    mine = {name: part for name, part in standing.items() if name in registered or name in made.nodes}
    if not mine:
        return made
    plan = msgspec.msgpack.decode(made.blobs[made.map_key], type=NodeMap)
    shared = made.blobs[plan.shared]
    shared_files = decode_files(shared)
    shared_paths = paths_of(shared)
    deliverable = Deliverable(shared_files)
    nodes, blobs = dict(made.nodes), dict(made.blobs)
    for name, part in mine.items():
        for path in paths_of(part.encoded) & shared_paths:
            raise DuplicatePath(path)
        deliverable.check(name, decode_files(part.encoded))
        digest = digest_of(part.manifest, shared_files.manifest)
        extended = part.extended or first_extended(shared_files)
        nodes[name] = payload = NodeArtifactsPayload(part.encoded, shared, digest, extended)
        refuse_beyond(f"the replaced payload of node {name}", payload.size_bytes)
        plan.nodes[name] = Mapped(part.key, digest, extended)
        blobs[part.key] = part.encoded
    ordered = NodeMap(plan.shared, dict(sorted(plan.nodes.items())))
    raw = msgspec.msgpack.encode(ordered)
    map_key = BLOB + sha256(raw).hexdigest()
    used = {plan.shared, *(mapped.local for mapped in ordered.nodes.values())}
    kept = {key: blob for key, blob in blobs.items() if key in used}
    return Prepared(nodes, {**kept, map_key: raw}, map_key, made.accepts_shrink, frozenset(mine))
