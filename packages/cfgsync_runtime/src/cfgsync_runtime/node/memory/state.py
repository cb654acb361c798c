"""A node's memory (docs/reference/files.md): its secret, the newest generation it accepted, its last good payload.

Each part is written whole. A part that is damaged or belongs to another node is reported and treated as absent; a damaged
secret is renamed, never overwritten.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from cfgsync_artifacts import (
    CfgsyncError,
    DiskError,
    Placed,
    create_file,
    make_directories,
    on_disk,
    replace_files,
)
from cfgsync_core import NodeArtifactsPayload
from cfgsync_core.node import Verify
from cfgsync_core.text import path_shown
from cfgsync_core.wire import decode_payload

from .sealed_file import NoFile, read, sealed, unsealed

SECRET_BYTES = 32

_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")  # what `Authorization: Bearer` can carry (RFC 6750)
PRIVATE = 0o600
_MAX_SECRET_FILE_BYTES = 4096
NO_SECRET_FILE: Final = (
    "put the node's secret there (CFGSYNC_SECRET_FILE takes a FILE, too), or leave out --secret-file: the node then makes one in"
    " its state directory"
)


class KnownGeneration(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last answer that this node accepted, `at` seconds since 1970. `epoch` is `""` for a static source, and `number`
    the revision that its signature names, else 0.
    `NodeState` fills in `identifier`; older versions wrote none. `signature` came with the files, "" without one."""

    epoch: str
    number: int
    digest: str
    at: float
    identifier: str = ""
    signature: str = ""


class _Told(msgspec.Struct, frozen=True):
    """The digest of the files that the program was told of last; "" for none."""

    digest: str
    identifier: str


class CachedPayload(msgspec.Struct, frozen=True):
    """The last good payload, checked by its digest. A server last confirmed it `at` seconds since 1970. `signature` came
    with it, "" without one, and is for the generation `signed`, None for a static source."""

    payload: NodeArtifactsPayload
    epoch: str
    number: int
    at: float
    signature: str = ""
    signed: str | None = None


_T = TypeVar("_T")


def warn(sentence: str) -> None:
    """A line on stderr."""
    print(f"warning: {sentence}", file=sys.stderr)


def _secret_in(found: bytes | None) -> str | None:
    text = (found or b"").decode("ascii", "replace").removesuffix("\n").removesuffix("\r")
    return text if _SECRET.fullmatch(text) else None


class NodeState:
    """The memory of the node `identifier` in `directory`, which is made (0700) when something is kept.

    `secret_file`, which must exist, is used instead of `directory/secret`. `complain` gets a sentence about each part that is
    damaged or belongs to another node. With `verify` the node takes only signed files. Every method raises `DiskError`.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        identifier: str,
        *,
        secret_file: str | os.PathLike[str] | None = None,
        verify: Verify | None = None,
        complain: Callable[[str], None] = warn,
    ) -> None:
        self.directory = os.fspath(directory)
        self.identifier = identifier
        self.unusable: dict[str, str] = {}
        """Part → what is wrong with it, for each part that was treated as absent when it was last read."""
        self.verify = verify
        self._given = None if secret_file is None else os.fspath(secret_file)
        self._complain = complain

    @property
    def secret_path(self) -> str:
        return self._given or self._path("secret")

    def secret(self) -> str:
        """The node's secret: 32 random bytes as URL-safe text. A new one (0600) is durable before it is returned: a secret
        that is used and then lost locks the node out of its own name."""
        return self._secret_at(self.secret_path)

    def kept_secret(self) -> str | None:
        """The secret that is on disk now; None for none. Nothing is made: for a watcher beside which a fetch by hand may have
        replaced it."""
        with suppress(NoFile, DiskError):
            return _secret_in(read(self.secret_path, _MAX_SECRET_FILE_BYTES))
        return None

    def next_secret(self) -> str:
        """A new secret, durable beside the old one before it is returned, or the one of a rotation that was cut off."""
        return self._secret_at(self.secret_path + ".next")

    def adopt_next_secret(self) -> None:
        """Put the next secret in the place of the node's, durably on return."""
        path = self.secret_path
        with on_disk(path):
            os.replace(path + ".next", path)
            directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _secret_at(self, path: str) -> str:
        for _ in range(3):
            try:
                found = read(path, _MAX_SECRET_FILE_BYTES)
            except NoFile as error:
                if self._given is not None:
                    raise DiskError(f"{path} {error}", "give a regular file") from None
                found = b""
            if (text := _secret_in(found)) is not None:
                return text
            if found is not None:
                self._set_aside(path)
            if path == self._given:  # a misspelt name must not make a new identity
                raise DiskError(f"there is no file {path_shown(path)}", NO_SECRET_FILE)
            if self._given is None:
                self.make_directory()
            fresh = base64.urlsafe_b64encode(os.urandom(SECRET_BYTES)).rstrip(b"=")
            if create_file(path, fresh + b"\n", PRIVATE):
                return fresh.decode()
            # Another process of this node was first: read its secret.
        raise DiskError(f"{path} appears and disappears", "find out which other program writes there")

    def seen(self) -> KnownGeneration | None:
        """The answer that was accepted last; None if it is absent, damaged or another node's."""
        return self.part("seen", self._seen)

    def saw(self, seen: KnownGeneration) -> bool:
        """Remember an answer without files (304). False, and nothing changes, when something newer is remembered, or when
        this answer has no generation and the remembered one does."""
        held = None if seen.epoch else self.seen()
        if held is not None and held.epoch:
            return False
        if held is not None:  # the answer names no revision
            seen = msgspec.structs.replace(seen, number=held.number)
        self.make_directory()
        note = Placed(self.directory, ("seen",), sealed(self.head(seen)), PRIVATE)
        return replace_files([note], unless=lambda: self._is_behind(seen))

    def keep(self, payload: NodeArtifactsPayload, seen: KnownGeneration) -> bool:
        """Remember an accepted payload, then its generation. False, and nothing changes, when something newer is remembered:
        two processes of one node may end in either order. An answer without a generation does not replace the newest
        generation: a proxy that strips a header must not make a node forget it."""
        head = self.head(seen)
        parts: list[tuple[str, tuple[bytes, ...]]] = [("payload", (head, b"\n", *payload.chunks))]
        held = None if seen.epoch else self.seen()
        if held is None or not held.epoch:
            parts.append(("seen", (head,)))
        self.make_directory()
        files = [Placed(self.directory, (name,), sealed(*body), PRIVATE) for name, body in parts]
        return replace_files(files, unless=lambda: self._is_behind(seen))

    def told(self) -> str | None:
        """The digest that the program was told of last, "" for none. None without a note: in a directory from before this
        note, the files that were seen last count as told (docs/reference/files.md)."""
        return self.part("told", self._told)

    def tell(self, digest: str) -> None:
        """Remember that the program was told of the files with this digest; "" makes the next look tell it again."""
        self.make_directory()
        note = sealed(msgspec.json.encode(_Told(digest, self.identifier)))
        replace_files([Placed(self.directory, ("told",), note, PRIVATE)])

    def cached(self) -> CachedPayload | None:
        """The last good payload, for a degraded start; None if it is absent, damaged or another node's."""
        cached = self.part("payload", self.cached_in)
        if cached is None:
            return None
        seen = self.seen()
        if seen is not None and seen.digest == cached.payload.digest and seen.at > cached.at:
            return msgspec.structs.replace(cached, epoch=seen.epoch, number=seen.number, at=seen.at)
        return cached

    def _is_behind(self, seen: KnownGeneration) -> bool:
        held = self.part("seen", self._seen)
        if held is None or not seen.epoch:
            return False  # a static source has no order
        return (held.epoch, held.number) > (seen.epoch, seen.number)

    def head(self, seen: KnownGeneration) -> bytes:
        """The line that says of which answer a part is."""
        return msgspec.json.encode(msgspec.structs.replace(seen, identifier=self.identifier))

    def _seen(self, body: bytes) -> KnownGeneration:
        seen = msgspec.json.decode(body, type=KnownGeneration)
        if seen.identifier not in ("", self.identifier):
            raise _Foreign(f"is of the node {seen.identifier!r}, not of {self.identifier!r}")
        return seen

    def _told(self, body: bytes) -> str:
        told = msgspec.json.decode(body, type=_Told)
        if told.identifier != self.identifier:
            raise _Foreign(f"is of the node {told.identifier!r}, not of {self.identifier!r}")
        return told.digest

    def cached_in(self, body: bytes) -> CachedPayload:
        """The payload in the content of a part."""
        head, _, rest = body.partition(b"\n")
        seen = self._seen(head)
        payload = decode_payload(rest, seen.digest)
        signed = f"{seen.epoch}.{seen.number}" if seen.epoch else None
        return CachedPayload(payload, seen.epoch, seen.number, seen.at, seen.signature, signed)

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def make_directory(self) -> None:
        """Make the directory (0700) unless it exists."""
        with on_disk(self.directory):
            make_directories(self.directory, 0o700)

    def _set_aside(self, path: str) -> None:
        if self._given is not None:
            # The operator's own file: a new secret in its place would only be refused by the server.
            raise DiskError(
                f"{path} holds no secret: 16 to 512 characters of A-Z a-z 0-9 . _ ~ + / = - in one line",
                NO_SECRET_FILE,
            )
        with on_disk(path):
            os.replace(path, path + ".damaged")
        self._complain(f"{path} is damaged: renamed it to {path}.damaged and made a new secret")

    def part(self, name: str, decode: Callable[[bytes], _T]) -> _T | None:
        """The part `name` as `decode` makes it of its content; None if it is absent, damaged or another node's."""
        path = self._path(name)
        self.unusable.pop(name, None)
        try:
            raw = read(path)
            return None if raw is None else decode(unsealed(raw))
        except DiskError:
            raise
        except _Foreign as error:
            why, what_to_do = str(error), ": give each node a state directory of its own"
        except NoFile as error:
            why, what_to_do = str(error), ""
        except (ValueError, CfgsyncError) as error:
            why, what_to_do = f"is damaged ({error})", ""
        self.unusable[name] = why
        self._complain(f"{path} {why}; it is treated as absent{what_to_do}")
        return None


class _Foreign(Exception):
    """A part that another node wrote: two nodes share a state directory."""


def told_before(state: NodeState) -> str:
    """What the program was told of before this start, noted before anything is written: a crash in between must not count
    as told. In a directory without the note, the files that were seen last count as told. Raises `DiskError`."""
    told = state.told()
    if told is None:
        seen = state.seen()
        told = seen.digest if seen is not None else ""
        state.tell(told)
    return told
