"""A generation is numbered, frozen, made once, and in the store before anyone is served from it.

What a node is answered is encoded once and stored once by its digest, the shared part apart; a generation maps nodes
to digests. So an unchanged node costs nothing, and a restart serves equal bytes by construction (`architecture.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import msgspec

from cfgsync_artifacts import ArtifactSet, CfgsyncError, DuplicatePath, digest_of
from cfgsync_core import NEVER, NodeArtifactsPayload, NotReady, Version
from cfgsync_core.store import BLOB
from cfgsync_core.wire import MAX_PAYLOAD_BYTES, decode_files, encode_files, first_extended

from ..application.materializer import MaterializedArtifacts
from .deliverable import Deliverable, within_words

"""What a node takes at most (`node.md`); a larger payload fails the run instead of every node."""


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a generation was made from: the claim, and the version of each bucket that the materializer read."""

    claim: int
    registrations: Version
    documents: Version | None = None
    replacements: Version | None = None

    def covers(self, other: Source) -> bool:
        """True when this source is at least `other` in every part."""
        return (
            self.claim >= other.claim
            and self.registrations >= other.registrations
            and (self.documents or NEVER) >= (other.documents or NEVER)
            and (self.replacements or NEVER) >= (other.replacements or NEVER)
        )


class PayloadTooLarge(CfgsyncError):
    """A node would be given more than it takes."""


class Generation(msgspec.Struct, frozen=True):
    """One committed answer for every node. `text` is `<epoch>.<number>` as it travels, `at_ms` when it was committed
    (milliseconds since 1970, 0 in what an older program committed), `replaced` who has an operator's files."""

    text: str
    number: int
    source: Source
    nodes: Mapping[str, NodeArtifactsPayload]
    blobs: frozenset[str]
    map_key: str
    at_ms: int = 0
    replaced: frozenset[str] = frozenset()

    @property
    def head(self) -> Head:
        """What the store keeps of it beside its blobs."""
        return Head(
            self.number, self.source, self.map_key, self.at_ms, len(self.nodes), tuple(sorted(self.replaced))
        )

    def artifacts(self) -> MaterializedArtifacts:
        """The artifacts that this generation serves, from its bytes."""
        shared = next((payload.shared for payload in self.nodes.values()), b"")
        own = {name: decode_files(payload.local) for name, payload in self.nodes.items()}
        return MaterializedArtifacts(own, decode_files(shared))


class Prepared(msgspec.Struct, frozen=True):
    """Artifacts as they will be stored: payloads by node, and the entries that hold them."""

    nodes: Mapping[str, NodeArtifactsPayload]
    blobs: Mapping[str, bytes]
    map_key: str
    accepts_shrink: bool = False
    replaced: frozenset[str] = frozenset()

    @classmethod
    def from_blobs(cls, map_key: str, blobs: Mapping[str, bytes], accepts_shrink: bool = False) -> Prepared:
        """What the map of this key names, from blobs that may be more than its own; nothing is encoded or hashed.

        Raises `KeyError` for a blob that is not there, `msgspec.DecodeError` for a map that is none.
        """
        plan = msgspec.msgpack.decode(blobs[map_key], type=NodeMap)
        shared = blobs[plan.shared]
        nodes: dict[str, NodeArtifactsPayload] = {}
        own = {map_key: blobs[map_key], plan.shared: shared}
        for identifier, mapped in plan.nodes.items():
            own[mapped.local] = local = blobs[mapped.local]
            nodes[identifier] = NodeArtifactsPayload(local, shared, mapped.digest, mapped.extended)
        return cls(nodes, own, map_key, accepts_shrink)


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """The small entry that names a generation: its number, source, where its map is, when it was committed, and how
    many nodes it has."""

    number: int
    source: Source
    map_key: str
    at_ms: int = 0
    nodes: int = 0
    replaced: tuple[str, ...] = ()


class Mapped(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One node in a `NodeMap`: the key of its own files, the digest of its payload, and `extended` of that."""

    local: str
    digest: str
    extended: str | None


class NodeMap(msgspec.Struct, frozen=True, array_like=True):
    """The blob that a generation's `map_key` names: which blobs each node is answered from."""

    shared: str
    nodes: dict[str, Mapped]


def checked(result: object) -> NotReady | Prepared:
    """A materializer's result as it can be published. Raises `TypeError` for anything else, and what `prepare` does."""
    if isinstance(result, NotReady):
        return within_words(result)
    if isinstance(result, MaterializedArtifacts):
        return prepare(result)
    raise TypeError(
        f"materialize_snapshot returned {type(result).__name__}, expected MaterializedArtifacts or NotReady"
    )


def prepare(artifacts: MaterializedArtifacts) -> Prepared:
    """Encode and hash what each node will be answered. Raises `DuplicatePath`, `PayloadTooLarge`, and what
    `Deliverable.check` does for what no node would take.

    The shared part is encoded and hashed once, and equal node-local sets are stored once.
    """
    shared = artifacts.shared
    shared_paths = {file.path for file in shared}
    shared_length = _length(shared)
    refuse_beyond("the shared content", shared_length)
    deliverable = Deliverable(shared)
    shared_bytes, shared_extended = encode_files(shared), first_extended(shared)
    shared_key = blob_key(shared_bytes)
    blobs: dict[str, bytes] = {shared_key: shared_bytes}
    nodes: dict[str, NodeArtifactsPayload] = {}
    mapped: dict[str, Mapped] = {}
    for identifier in sorted(artifacts.nodes):
        local = artifacts.nodes[identifier]
        if not isinstance(local, ArtifactSet):
            raise TypeError(f"node {identifier}: expected an ArtifactSet, got {type(local).__name__}")
        for file in local.files:
            if file.path in shared_paths:
                raise DuplicatePath(file.path)
        # looked at before it is encoded: what is far too large would take several times its memory
        refuse_beyond(f"the content for node {identifier}", _length(local) + shared_length)
        deliverable.check(identifier, local)
        encoded = encode_files(local)
        key = blob_key(encoded)
        encoded = blobs.setdefault(key, encoded)
        payload = NodeArtifactsPayload(
            encoded,
            shared_bytes,
            digest_of(local.manifest, shared.manifest),
            first_extended(local) or shared_extended,
        )
        refuse_beyond(f"the payload of node {identifier}", payload.size_bytes)
        nodes[identifier] = payload
        mapped[identifier] = Mapped(key, payload.digest, payload.extended)
    raw = msgspec.msgpack.encode(NodeMap(shared_key, mapped))
    map_key = blob_key(raw)
    blobs[map_key] = raw
    return Prepared(nodes, blobs, map_key, artifacts.accepts_shrink)


def restore(epoch: str, head: Head, entries: Mapping[str, bytes]) -> Generation:
    """The generation that `head` names, from the bucket's entries; nothing is encoded again.

    Raises `KeyError` for a blob that is not there, `msgspec.DecodeError` for a map that is none.
    """
    kept = Prepared.from_blobs(head.map_key, entries)
    return Generation(
        f"{epoch}.{head.number}",
        head.number,
        head.source,
        kept.nodes,
        frozenset(kept.blobs),
        head.map_key,
        head.at_ms,
        frozenset(head.replaced),
    )


def _length(files: ArtifactSet) -> int:
    """Characters or bytes of content: never more than what they are encoded to."""
    return sum(len(file.content) for file in files.files)


def refuse_beyond(what: str, size_bytes: int) -> None:
    """Raise `PayloadTooLarge` for more than a node takes."""
    if size_bytes > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(f"{what} is {size_bytes} bytes, a node takes {MAX_PAYLOAD_BYTES}")


def blob_key(data: bytes) -> str:
    """The key that names these bytes."""
    return BLOB + sha256(data).hexdigest()
