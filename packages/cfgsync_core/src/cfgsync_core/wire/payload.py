"""The payload of one node as bytes. Golden bytes are in `tests/core/golden/`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import msgspec

from cfgsync_artifacts import ArtifactFile, ArtifactSet, CfgsyncError, DuplicatePath, digest_of, manifest_line

from ..errors import IntegrityError
from .json_text import text_bytes
from .limits import MAX_QUOTES

SCHEMA_VERSION: Final = 1
_encode = msgspec.json.Encoder().encode


class File(msgspec.Struct, gc=False, omit_defaults=True):
    """One file. `mode` and `encoding` are there only when they differ from 0644 and text."""

    path: str
    content: str
    mode: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^0[0-7]{3}$"})] = "0644"
    encoding: str = "text"


class _PayloadIn(msgspec.Struct, gc=False):
    schema_version: int
    files: msgspec.Raw = msgspec.Raw(b"[]")


class _FileIn(msgspec.Struct, gc=False):
    path: str
    content: msgspec.Raw
    mode: str = "0644"
    encoding: str = "text"


class RawFile(msgspec.Struct, frozen=True, gc=False):
    """A file as it is written to disk: bytes, since text may take four times the memory."""

    path: str
    data: bytes
    mode: str


def encode_files(files: Iterable[ArtifactFile]) -> bytes:
    """The file objects of a payload, separated by commas, without the brackets."""
    return _encode(
        [
            File(f.path, base64.b64encode(f.content).decode(), f.mode, "base64")
            if isinstance(f.content, bytes)
            else File(f.path, f.content, f.mode)
            for f in files
        ]
    )[1:-1]


class NodeArtifactsPayload:
    """One node's files: node-local first, then shared; encoded once, decoded when they are read.

    `digest` is `sha256-<hex>` of the file set; `extended` is the first path that needs `Cfgsync-Accept: base64, mode`, or
    None. `local` and `shared` are as `encode_files` made them.
    """

    __slots__ = ("_files", "digest", "extended", "local", "shared")
    schema_version = SCHEMA_VERSION

    def __init__(self, local: bytes, shared: bytes, digest: str, extended: str | None = None) -> None:
        self.local = local
        self.shared = shared
        self.digest = digest
        self.extended = extended
        self._files: tuple[ArtifactFile, ...] | None = None

    @classmethod
    def from_files(cls, local: ArtifactSet, shared: ArtifactSet | None = None) -> NodeArtifactsPayload:
        """The payload of these files. Raises `DuplicatePath` when a shared path is also a local one."""
        shared = shared or ArtifactSet()
        whole = local + shared
        digest = digest_of(local.manifest, shared.manifest)
        made = cls(encode_files(local), encode_files(shared), digest, first_extended(whole))
        made._files = whole.files
        return made

    @property
    def chunks(self) -> tuple[bytes, ...]:
        """The body in pieces; the shared piece is one object for all nodes."""
        if not self.shared:
            return (b'{"schema_version":1,"files":[', self.local, b"]}")  # joined once, later
        comma = b"," if self.local else b""
        return (b'{"schema_version":1,"files":[' + self.local + comma, self.shared, b"]}")

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)

    @property
    def size_bytes(self) -> int:
        return 31 + len(self.local) + len(self.shared) + (1 if self.local and self.shared else 0)

    @property
    def files(self) -> tuple[ArtifactFile, ...]:
        if self._files is None:
            self._files = decode_files(self.local, self.shared).files
        return self._files

    def raw_files(self) -> Iterator[RawFile]:
        """The files one by one, each decoded when it is needed and not kept."""
        for part in (self.local, self.shared):
            for file in _listed(b"[%b]" % part):
                yield RawFile(file.path, _data(file), file.mode)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, NodeArtifactsPayload) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"NodeArtifactsPayload({self.digest}, {[f.path for f in self.files]})"


def first_extended(files: Iterable[ArtifactFile]) -> str | None:
    """The first path that an original client would write wrongly, or None."""
    return next((f.path for f in files if not f.is_plain), None)


def decode_files(*encoded: bytes) -> ArtifactSet:
    """The files in what `encode_files` encoded. Raises `IntegrityError`."""
    listed = (file for part in encoded for file in _listed(b"[%b]" % part))
    try:
        return ArtifactSet(ArtifactFile(file.path, _data(file), file.mode) for file in listed)
    except CfgsyncError as error:
        raise error if isinstance(error, IntegrityError) else IntegrityError(str(error)) from error


def paths_of(encoded: bytes) -> frozenset[str]:
    """The paths of the files that `encode_files` encoded; their contents are not decoded."""
    return frozenset(file.path for file in _listed(b"[%b]" % encoded))


def decode_payload(body: bytes, etag: str | None = None) -> NodeArtifactsPayload:
    """The payload in a 200 body, checked against its `ETag` digest when there is one; decoding holds one file at a time
    besides the body.

    Raises `IntegrityError`: not a payload, another schema version, an illegal file, two equal paths, wrong digest.
    """
    if body.count(b'"') - body.count(b'\\"') > MAX_QUOTES:
        raise IntegrityError("the answer holds far more files than a node takes")
    try:
        payload = msgspec.json.decode(body, type=_PayloadIn)
    except _BROKEN as error:
        raise _no_payload(error) from error
    if payload.schema_version != SCHEMA_VERSION:
        raise IntegrityError(
            f"unsupported cfgsync payload schema version {payload.schema_version}, expected {SCHEMA_VERSION}"
        )
    manifest = bytearray()
    extended: str | None = None
    try:
        for file in _listed(payload.files):
            named = ArtifactFile(file.path, "", file.mode)
            manifest += manifest_line(named.path, named.mode, _data(file))
            if extended is None and not (named.is_plain and file.encoding == "text"):
                extended = named.path
    except CfgsyncError as error:
        raise error if isinstance(error, IntegrityError) else IntegrityError(str(error)) from error
    digest = digest_of(manifest)
    if etag is not None and etag != digest:
        raise IntegrityError(f"the files have digest {digest}, the server said {etag}")
    return NodeArtifactsPayload(bytes(memoryview(payload.files)[1:-1]).strip(), b"", digest, extended)


def _listed(array: bytes | msgspec.Raw) -> Iterator[_FileIn]:
    """The files of an array. Raises `DuplicatePath`."""
    try:
        files = msgspec.json.decode(array, type=list[_FileIn])
    except _BROKEN as error:
        raise _no_payload(error) from error
    seen: set[str] = set()
    for file in files:
        if file.path in seen:
            raise DuplicatePath(file.path)
        seen.add(file.path)
        yield file


def _data(file: _FileIn) -> bytes:
    try:
        text = text_bytes(file.content)
    except _BROKEN as error:
        raise IntegrityError(f"file {file.path!r} has no content that is text: {error}") from error
    if file.encoding == "text":
        return text
    if file.encoding != "base64":
        raise IntegrityError(f"file {file.path!r} has the unknown encoding {file.encoding!r}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise IntegrityError(f"file {file.path!r} is not base64: {error}") from error


_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _no_payload(error: Exception) -> IntegrityError:
    return IntegrityError(f"the answer is not a cfgsync payload: {error}")
