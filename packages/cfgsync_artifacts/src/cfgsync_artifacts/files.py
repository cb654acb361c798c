"""Files and sets of files as values: paths are distinct, and a set's digest is equal exactly when its files are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256

import msgspec

from .errors import DuplicatePath, InvalidArtifact

DEFAULT_MODE = "0644"
_MODE = re.compile(r"0[0-7]{3}")


class ArtifactFile(msgspec.Struct, frozen=True, gc=False):
    """One file to deliver: `ArtifactFile("/config.yaml", "id: node-1\\n")`.

    `path` is a name, which the node maps to a place. `content` is text, or bytes for binary content; bytes that are
    UTF-8 are kept as text, so equal files compare equal. `mode` is four octal digits, `"0000"` to `"0777"`.

    Raises `InvalidArtifact` for an empty path, a path with a NUL, text that is not Unicode, or another mode.
    """

    path: str
    content: str | bytes
    mode: str = DEFAULT_MODE

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path or "\0" in self.path:
            raise InvalidArtifact(str(self.path), "a path is text, not empty and without NUL")
        if self.mode != DEFAULT_MODE and not (isinstance(self.mode, str) and _MODE.fullmatch(self.mode)):
            raise InvalidArtifact(self.path, f"mode {self.mode!r} is not four octal digits from 0000 to 0777")
        try:
            self.path.encode()
            if isinstance(self.content, str):
                self.content.encode()
            elif isinstance(self.content, bytes | bytearray | memoryview):
                msgspec.structs.force_setattr(self, "content", _text_if_it_is(bytes(self.content)))
            else:
                what = type(self.content).__name__
                raise InvalidArtifact(self.path, f"content is text or bytes, not {what}")
        except UnicodeEncodeError as error:
            raise InvalidArtifact(self.path, f"not Unicode text: {error.reason}") from error

    @property
    def data(self) -> bytes:
        """The content as the bytes that land on disk."""
        return self.content.encode() if isinstance(self.content, str) else self.content

    @property
    def is_plain(self) -> bool:
        """True when an original client writes this file correctly: text, mode 0644."""
        return isinstance(self.content, str) and self.mode == DEFAULT_MODE


def _text_if_it_is(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


class ArtifactSet:
    """An ordered, immutable set of files with distinct paths. Raises `DuplicatePath`; `TypeError` for one file instead of a list.

    `a + b` is the set of a's files, then b's. `len`, iteration, indexing, equality.
    """

    __slots__ = ("_manifest", "files")

    files: tuple[ArtifactFile, ...]

    def __init__(self, files: Iterable[ArtifactFile] = ()) -> None:
        if isinstance(files, str | bytes) or not isinstance(files, Iterable):
            write = ": write ArtifactSet([…])" if isinstance(files, ArtifactFile) else ""
            raise TypeError(
                f"an ArtifactSet is made of a list of ArtifactFile, not {type(files).__name__}{write}"
            )
        self.files = tuple(files)
        self._manifest: bytes | None = None
        seen: set[str] = set()
        for file in self.files:
            if not isinstance(file, ArtifactFile):
                what = type(file).__name__
                raise InvalidArtifact(str(file), f"an ArtifactSet holds ArtifactFile, not {what}")
            if file.path in seen:
                raise DuplicatePath(file.path)
            seen.add(file.path)

    @property
    def manifest(self) -> bytes:
        """For each file in order: path NUL mode NUL lower-hex SHA-256 of the content, LF. It is made once, so that a
        shared set is hashed once and not once per node."""
        if self._manifest is None:
            self._manifest = b"".join(manifest_line(f.path, f.mode, f.data) for f in self.files)
        return self._manifest

    @property
    def digest(self) -> str:
        """`sha256-<hex>` over the manifest: the `ETag` of a payload with these files."""
        return digest_of(self.manifest)

    def __add__(self, other: ArtifactSet) -> ArtifactSet:
        if not isinstance(other, ArtifactSet):
            return NotImplemented
        return ArtifactSet(self.files + other.files)

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[ArtifactFile]:
        return iter(self.files)

    def __getitem__(self, index: int) -> ArtifactFile:
        return self.files[index]

    def __eq__(self, other: object) -> bool:
        return self.files == other.files if isinstance(other, ArtifactSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.files)

    def __repr__(self) -> str:
        return f"ArtifactSet({[f.path for f in self.files]})"


def manifest_line(path: str, mode: str, data: bytes) -> bytes:
    """One file's line of a manifest."""
    return f"{path}\0{mode}\0{sha256(data).hexdigest()}\n".encode()


def digest_of(*manifests: bytes | bytearray) -> str:
    """The digest of the set whose files are those of the given manifests, in order."""
    return "sha256-" + sha256(b"".join(manifests)).hexdigest()
