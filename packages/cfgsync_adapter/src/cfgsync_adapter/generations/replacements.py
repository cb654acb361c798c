"""Replacements: the files that an operator gives a node in place of the materializer's.

A replacement is kept until another one, or an empty one, takes its place, also while its node is not registered. It takes
effect in the next generation, whose source names the version of this bucket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping

import msgspec

from cfgsync_artifacts import ArtifactSet, digest_of
from cfgsync_core import Conflict, NodeArtifactsPayload, RevisionedStore, Version
from cfgsync_core.follow import BucketMirror, OtherServers
from cfgsync_core.store import BLOB
from cfgsync_core.wire import decode_files, encode_files, first_extended

from .deliverable import Deliverable
from .generation import Mapped, NodeMap, Prepared, blob_key, refuse_beyond

BUCKET = "replacements"
COUNTER = "#"  # no node has this name; each commit writes it, so that no server deletes a blob that another one needs


class Replacements(BucketMirror[bytes]):
    """The mirror of the replacements: identifier → key of the blob that holds its encoded files."""

    def __init__(
        self,
        store: RevisionedStore,
        *,
        on_adopted: Callable[[], object] = lambda: None,
        others: OtherServers | None = None,
    ) -> None:
        """`on_adopted` is called after another server's commits were read."""
        super().__init__(store, BUCKET, bytes, bytes, on_change=self._changed, others=others, whole=True)
        self._on_adopted = on_adopted
        self._writing = asyncio.Lock()

    def by_node(self) -> dict[str, bytes]:
        """The encoded files of each node that has a replacement."""
        entries = self.entries
        return {
            name: entries[key.decode()]
            for name, key in entries.items()
            if name != COUNTER and not name.startswith(BLOB)
        }

    async def put(self, identifier: str, files: ArtifactSet) -> Version:
        """Give this node these files; an empty set deletes its replacement. Durable on return.

        Raises `InvalidArtifact` for files that a node refuses; `PayloadTooLarge`; `Unavailable` and its subclasses.
        """
        encoded = b""
        if len(files):
            await asyncio.to_thread(Deliverable(ArtifactSet()).check, identifier, files)
            encoded = await asyncio.to_thread(encode_files, files)
        refuse_beyond(f"the replacement for node {identifier}", len(encoded))
        after = blob_key(encoded) if encoded else None
        async with self._writing:
            while True:
                entries = self.entries
                found = entries.get(identifier)
                before = None if found is None else found.decode()
                if before == after:
                    return self.version
                counter = self._revisions.get(COUNTER, 0)
                writes: dict[str, bytes | None] = {COUNTER: b"%d" % (counter + 1), identifier: None}
                if after is not None:
                    writes[identifier] = after.encode()
                    writes[after] = encoded
                if found is not None and list(entries.values()).count(found) == 1:
                    writes[found.decode()] = None  # no other node has these files
                try:
                    return await self.commit(writes, expected={COUNTER: counter})
                except Conflict:
                    continue  # another server's replacement has been read

    def _changed(self, writes: object) -> None:
        if writes is None:
            self._on_adopted()


def overlay(made: Prepared, replaced: Mapping[str, bytes], registered: Container[str]) -> Prepared:
    """`made` with the replacements of the nodes that are registered or in it; they keep the shared files.

    Raises `DuplicatePath` for a path that a shared file has too, `InvalidArtifact`, `PayloadTooLarge`.
    """
    mine = {name: own for name, own in replaced.items() if name in registered or name in made.nodes}
    if not mine:
        return made
    plan = msgspec.msgpack.decode(made.blobs[made.map_key], type=NodeMap)
    shared = made.blobs[plan.shared]
    shared_files = decode_files(shared)
    deliverable = Deliverable(shared_files)
    nodes, blobs = dict(made.nodes), dict(made.blobs)
    for name, own in mine.items():
        files = decode_files(own)
        deliverable.check(name, files)
        digest = digest_of(files.manifest, shared_files.manifest)
        extended = first_extended(files) or first_extended(shared_files)
        nodes[name] = payload = NodeArtifactsPayload(own, shared, digest, extended)
        refuse_beyond(f"the replaced payload of node {name}", payload.size_bytes)
        key = blob_key(own)
        plan.nodes[name] = Mapped(key, digest, extended)
        blobs[key] = own
    raw = msgspec.msgpack.encode(NodeMap(plan.shared, dict(sorted(plan.nodes.items()))))
    map_key = blob_key(raw)
    used = {plan.shared, *(mapped.local for mapped in plan.nodes.values())}
    kept = {key: blob for key, blob in blobs.items() if key in used}
    return Prepared(
        nodes, {**kept, map_key: raw}, map_key, made.accepts_shrink, frozenset(mine), made.at_once
    )
