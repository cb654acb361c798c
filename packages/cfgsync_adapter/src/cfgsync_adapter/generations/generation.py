"""A generation is numbered, frozen, made once, and in the store before any node is served from it.

The files of a node are encoded once, and stored once by their hash; the shared files are stored apart. A generation maps
nodes to hashes: an unchanged node costs nothing, and after a restart the same bytes are served.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256

import msgspec

from cfgsync_artifacts import ArtifactSet, CfgsyncError, digest_of
from cfgsync_core import NEVER, NodeArtifactsPayload, NotReady, Version
from cfgsync_core.store import BLOB
from cfgsync_core.wire import MAX_PAYLOAD_BYTES, decode_files, encode_files, first_extended

from ..application.materializer import MaterializedArtifacts
from .deliverable import Deliverable, within_words


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a generation was made from: a claim, and the version of each bucket that its run has read."""

    claim: int
    registrations: Version
    documents: Version | None = None
    replacements: Version | None = None

    def covers(self, other: Source) -> bool:
        """True when no part of this source is older than that of `other`."""
        return (
            self.claim >= other.claim
            and self.registrations >= other.registrations
            and (self.documents or NEVER) >= (other.documents or NEVER)
            and (self.replacements or NEVER) >= (other.replacements or NEVER)
        )

    def in_epochs_of(self, now: Source) -> Source:
        """This source in the epochs that the store has `now`: a new epoch keeps entries and revisions. A part of a revision that
        the store does not have any more stays as it is, and is covered by nothing."""
        return Source(
            self.claim,
            _in_epoch_of(now.registrations, self.registrations),
            None if self.documents is None else _in_epoch_of(now.documents or NEVER, self.documents),
            None if self.replacements is None else _in_epoch_of(now.replacements or NEVER, self.replacements),
        )


def _in_epoch_of(now: Version, version: Version) -> Version:
    is_continued = now.epoch > version.epoch and now.revision >= version.revision
    return Version(now.epoch, version.revision) if is_continued else version


class InvalidResult(CfgsyncError, TypeError):
    """The materializer returned something else than artifacts or a NotReady."""


class PayloadTooLarge(CfgsyncError):
    """The files of a node are larger than a node accepts."""


class Generation(msgspec.Struct, frozen=True, dict=True):
    """A numbered, committed set of files for the fleet. `text` is `<epoch>.<number>`, as on the wire; `at_ms` is when it
    was committed (milliseconds since 1970, 0 when not known); `replaced` names the nodes with an operator's files.
    `at_once`: nodes take no turns for it. `reverts`: it has the content of the generation of that number (0: of none)."""

    text: str
    number: int
    source: Source
    nodes: Mapping[str, NodeArtifactsPayload]
    blobs: frozenset[str]
    map_key: str
    at_ms: int = 0
    replaced: frozenset[str] = frozenset()
    at_once: bool = False
    reverts: int = 0

    @property
    def head(self) -> Head:
        """What the store keeps beside the blobs."""
        return Head(
            self.number,
            self.source,
            self.map_key,
            self.at_ms,
            len(self.nodes),
            tuple(sorted(self.replaced)),
            self.at_once,
            self.reverts,
        )

    @cached_property
    def version(self) -> Version:
        """Its epoch and number, which compare."""
        return Version(self.text.rpartition(".")[0], self.number)

    def artifacts(self) -> MaterializedArtifacts:
        """The artifacts that this generation serves, decoded."""
        own = {name: decode_files(payload.local) for name, payload in self.nodes.items()}
        return MaterializedArtifacts(own, decode_files(shared_part(self.nodes)))


class Prepared(msgspec.Struct, frozen=True):
    """Artifacts as they are stored: payloads by node, and the blobs that hold them by key."""

    nodes: Mapping[str, NodeArtifactsPayload]
    blobs: Mapping[str, bytes]
    map_key: str
    accepts_shrink: bool = False
    replaced: frozenset[str] = frozenset()
    at_once: bool = False

    @classmethod
    def from_blobs(
        cls, map_key: str, blobs: Mapping[str, bytes], accepts_shrink: bool = False, at_once: bool = False
    ) -> Prepared:
        """What the map `map_key` names; `blobs` may hold others too. Nothing is encoded or hashed.

        Raises `KeyError` for a blob that is missing, `msgspec.DecodeError` for an invalid map.
        """
        plan = msgspec.msgpack.decode(blobs[map_key], type=NodeMap)
        shared = blobs[plan.shared]
        nodes: dict[str, NodeArtifactsPayload] = {}
        own = {map_key: blobs[map_key], plan.shared: shared}
        for identifier, mapped in plan.nodes.items():
            own[mapped.local] = local = blobs[mapped.local]
            nodes[identifier] = NodeArtifactsPayload(local, shared, mapped.digest, mapped.extended)
        return cls(nodes, own, map_key, accepts_shrink, at_once=at_once)


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """A generation without its files. `nodes` is a count; see `Generation` and `NodeMap` for the others."""

    number: int
    source: Source
    map_key: str
    at_ms: int = 0
    nodes: int = 0
    replaced: tuple[str, ...] = ()
    at_once: bool = False
    reverts: int = 0


class Mapped(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One node in a `NodeMap`: the key of its own files, and the digest and `extended` of its payload."""

    local: str
    digest: str
    extended: str | None


class NodeMap(msgspec.Struct, frozen=True, array_like=True):
    """The blob `map_key` of a generation: the blobs that hold each node's files."""

    shared: str
    nodes: dict[str, Mapped]


def checked(result: object) -> NotReady | Prepared:
    """A materializer's result, ready to be published. Raises `InvalidResult` for another type, and what `prepare` raises."""
    if isinstance(result, NotReady):
        return within_words(result)
    if isinstance(result, MaterializedArtifacts):
        return prepare(result)
    raise InvalidResult(
        f"materialize_snapshot returned {type(result).__name__}, expected MaterializedArtifacts or NotReady"
    )


def prepare(artifacts: MaterializedArtifacts) -> Prepared:
    """Encode and hash each node's files, the shared files once. Raises `PayloadTooLarge`, and as `Deliverable.check`."""
    shared = artifacts.shared
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
        # checked before it is encoded, which takes several times the memory of the content
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
    return Prepared(nodes, blobs, map_key, artifacts.accepts_shrink, at_once=artifacts.is_at_once)


def generation_of(epoch: str, head: Head, prepared: Prepared) -> Generation:
    """The generation of `head`, whose files these are."""
    return Generation(
        f"{epoch}.{head.number}",
        head.number,
        head.source,
        prepared.nodes,
        frozenset(prepared.blobs),
        head.map_key,
        head.at_ms,
        frozenset(head.replaced),
        head.at_once,
        head.reverts,
    )


def shared_part(nodes: Mapping[str, NodeArtifactsPayload]) -> bytes:
    """The encoded shared files, which are the same in every payload."""
    return next((payload.shared for payload in nodes.values()), b"")


def _length(files: ArtifactSet) -> int:
    """Characters or bytes of content: at most the length of the encoded files."""
    return sum(len(file.content) for file in files.files)


def refuse_beyond(what: str, size_bytes: int) -> None:
    """Raise `PayloadTooLarge` for more than a node accepts."""
    if size_bytes > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(f"{what} is {size_bytes} bytes, a node takes {MAX_PAYLOAD_BYTES}")


def blob_key(data: bytes) -> str:
    """The key that names these bytes."""
    return BLOB + sha256(data).hexdigest()
