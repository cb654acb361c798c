"""A bundle: the files of every node, known beforehand, and checked when it is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from cfgsync_artifacts import (
    ArtifactFile,
    ArtifactSet,
    CfgsyncError,
    InvalidArtifact,
    digest_of,
    legal_places,
)

from ..errors import InvalidRegistration
from ..wire.limits import MAX_FILE_BYTES, MAX_FILES, MAX_PAYLOAD_BYTES
from ..wire.payload import NodeArtifactsPayload, encode_files, first_extended
from ..wire.registration import check_identifier

At: TypeAlias = tuple[str | int, ...]


class InvalidBundle(CfgsyncError, ValueError):
    """A bundle that would hide a node or a file. `at` is the path to the fault (`("nodes", 1, "identifier")`), `why` names
    it."""

    hint = "correct the bundle; docs/reference/files.md has the rules for files"

    def __init__(self, at: At, why: str) -> None:
        super().__init__(f"{spell_path(at)}: {why}")
        self.at = at
        self.why = why


def spell_path(at: Iterable[str | int]) -> str:
    """`("nodes", 0, "files", 1)` as `nodes[0].files[1]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at)
    return text.removeprefix(".")


class NodeArtifactsBundleEntry(msgspec.Struct, frozen=True):
    """One node of a bundle: `NodeArtifactsBundleEntry("node-1", ArtifactSet([ArtifactFile("/a", "1")]))`.

    A list of files is taken too and becomes a set. Raises `InvalidBundle` for an identifier outside the rule, and
    `DuplicatePath`.
    """

    identifier: str
    files: ArtifactSet = ArtifactSet()

    def __post_init__(self) -> None:
        try:
            check_identifier(self.identifier)
        except InvalidRegistration as error:
            raise InvalidBundle(
                ("identifier",), f"{str(self.identifier)[:140]!r} is not {error.why}"
            ) from error
        msgspec.structs.force_setattr(self, "files", _as_set(self.files))


class NodeArtifactsBundle(msgspec.Struct, frozen=True):
    """The artifacts of every node and the shared ones; a node gets its own files first, then the shared files.

    Raises `InvalidBundle` when two nodes have one identifier, when a shared file has the path of a node's own file (in the
    original the last one won without a word), and for files that no node takes: illegal paths, too many, too large.
    `signatures` are those that `cfgsync bundle sign` made for the identifiers, of this `revision`; 0: the bundle has none.
    """

    nodes: tuple[NodeArtifactsBundleEntry, ...] = ()
    shared_files: ArtifactSet = ArtifactSet()
    revision: int = 0
    signatures: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "nodes", tuple(self.nodes))
        msgspec.structs.force_setattr(self, "shared_files", _as_set(self.shared_files))
        seen: dict[str, int] = {}
        shared = {file.path: index for index, file in enumerate(self.shared_files)}
        for index, entry in enumerate(self.nodes):
            if (first := seen.setdefault(entry.identifier, index)) != index:
                raise InvalidBundle(
                    ("nodes", index, "identifier"),
                    f"{entry.identifier} is given twice, first as nodes[{first}]",
                )
            for file in entry.files if shared else ():
                if (hider := shared.get(file.path)) is not None:
                    raise InvalidBundle(
                        ("shared_files", hider, "path"),
                        f"the shared file {file.path!r} hides the own file of node {entry.identifier} with that path",
                    )
        self._refuse_undeliverable()

    def _refuse_undeliverable(self) -> None:
        shared_bytes = _size_within(("shared_files",), self.shared_files)
        legal: set[tuple[str, ...]] = set()
        for index, entry in enumerate(self.nodes):
            at = ("nodes", index, "files")
            paths = tuple(file.path for files in (entry.files, self.shared_files) for file in files)
            if len(paths) > MAX_FILES:
                raise InvalidBundle(at, f"{len(paths)} files with the shared ones, a node takes {MAX_FILES}")
            if (size := _size_within(at, entry.files) + shared_bytes) > MAX_PAYLOAD_BYTES:
                raise InvalidBundle(
                    at, f"{size} bytes with the shared files, a node takes {MAX_PAYLOAD_BYTES}"
                )
            if paths not in legal:
                try:
                    legal_places(paths)
                except InvalidArtifact as error:
                    number = paths.index(error.path)
                    own = len(entry.files)
                    file: At = (*at, number) if number < own else ("shared_files", number - own)
                    raise InvalidBundle((*file, "path"), error.why) from error
                legal.add(paths)


def _size_within(at: At, files: ArtifactSet) -> int:
    """The bytes of all files. Raises `InvalidBundle` for one that no node takes."""
    sizes = [len(file.data) for file in files]
    for number, size in enumerate(sizes):
        if size > MAX_FILE_BYTES:
            raise InvalidBundle(
                (*at, number, "content"), f"the file has {size} bytes, a node takes {MAX_FILE_BYTES}"
            )
    return sum(sizes)


def _as_set(files: Iterable[ArtifactFile]) -> ArtifactSet:
    return files if isinstance(files, ArtifactSet) else ArtifactSet(files)


def encode_bundle(bundle: NodeArtifactsBundle) -> dict[str, NodeArtifactsPayload]:
    """Every node's payload; the shared part is encoded once and is one object in all of them."""
    shared = encode_files(bundle.shared_files)
    manifest = bundle.shared_files.manifest
    extended = first_extended(bundle.shared_files)
    payloads = {
        entry.identifier: NodeArtifactsPayload(
            encode_files(entry.files),
            shared,
            digest_of(entry.files.manifest, manifest),
            first_extended(entry.files) or extended,
        )
        for entry in bundle.nodes
    }
    for index, payload in enumerate(payloads.values()):
        if payload.size_bytes > MAX_PAYLOAD_BYTES:
            size = f"{payload.size_bytes} bytes as they travel, a node takes {MAX_PAYLOAD_BYTES}"
            raise InvalidBundle(("nodes", index, "files"), size)
    return payloads
