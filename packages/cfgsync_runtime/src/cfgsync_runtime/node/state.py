"""What a node remembers, each part whole or not at all: its secret, what it saw last, and its last good payload.

A part that is damaged, or of another node, is named and treated as absent; a damaged secret is set aside, never
overwritten. Only the standard library is used, as in `outputs`.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TypeVar

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
from cfgsync_core.wire import decode_payload

SECRET_BYTES = 32
_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")  # what `Authorization: Bearer` can carry (RFC 6750)
_PRIVATE = 0o600
_SEAL = "cfgsync-state 1 "
_MAX_SECRET_FILE_BYTES = 4096


class KnownGeneration(msgspec.Struct, frozen=True):
    """The last answer that this node accepted. `epoch` is `""` and `number` 0 for a static source, which has no
    generations; `at` is when, in seconds since 1970. `identifier` is whose it is: `NodeState` fills it in; "" in what
    was written before it was."""

    epoch: str
    number: int
    digest: str
    at: float
    identifier: str = ""


class CachedPayload(msgspec.Struct, frozen=True):
    """The last good payload, checked by its digest. `at` is when a server last confirmed it, in seconds since 1970."""

    payload: NodeArtifactsPayload
    epoch: str
    number: int
    at: float


_T = TypeVar("_T")


def default_directory(server: str, identifier: str, environ: Mapping[str, str] = os.environ) -> str:
    """`$XDG_STATE_HOME/cfgsync/<first 16 hex of SHA-256(server, NUL, identifier)>`; `server` is the first URL as given.

    Raises `DiskError` when the environment has no place for it.
    """
    home = environ.get("XDG_STATE_HOME", "")
    if not home.startswith("/"):  # XDG: a relative path is to be ignored
        user = environ.get("HOME") or os.path.expanduser("~")
        home = os.path.join(user, ".local", "state")
    if not home.startswith("/"):
        raise DiskError(
            "there is no place to remember anything: neither XDG_STATE_HOME nor HOME is set",
            "give --state DIR",
        )
    return os.path.join(home, "cfgsync", sha256(f"{server}\0{identifier}".encode()).hexdigest()[:16])


class NodeState:
    """The memory of the node `identifier` in `directory`, which is used as given and made (0700) when something is kept.

    `secret_file` is used instead of `directory/secret`. `complain` is told, in a sentence, of what is damaged or of
    another node. Every method raises `DiskError` when the disk refuses.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        identifier: str,
        *,
        secret_file: str | os.PathLike[str] | None = None,
        complain: Callable[[str], None] | None = None,
    ) -> None:
        self.directory = os.fspath(directory)
        self.identifier = identifier
        self.unusable: dict[str, str] = {}
        """Part → what is wrong with it, of those that were treated as absent when they were last looked at."""
        self._given = None if secret_file is None else os.fspath(secret_file)
        self._complain = complain or _to_stderr

    def secret(self) -> str:
        """The node's secret: 32 random bytes as URL-safe text, made (0600) when there is none, and durable before it
        is returned: a secret that is used and then lost locks the node out of its own name."""
        path = self._given or self._path("secret")
        for _ in range(3):
            try:
                found = _read(path, _MAX_SECRET_FILE_BYTES)
            except _NoFile as error:
                if self._given is not None:
                    raise DiskError(f"{path} {error}", "give a file that can be read twice") from None
                found = b""
            if found is not None:
                text = found.decode("ascii", "replace").removesuffix("\n").removesuffix("\r")
                if _SECRET.fullmatch(text):
                    return text
                self._set_aside(path)
            if self._given is None:
                self._make_directory()
            fresh = base64.urlsafe_b64encode(os.urandom(SECRET_BYTES)).rstrip(b"=")
            if create_file(path, fresh + b"\n", _PRIVATE):
                return fresh.decode()
            # Another process of this node was first: its secret is ours.
        raise DiskError(f"{path} appears and disappears", "find out who else writes there")

    def seen(self) -> KnownGeneration | None:
        """What was accepted last; None for nothing, for a damaged note, or for another node's."""
        return self._part("seen", self._seen)

    def saw(self, seen: KnownGeneration) -> bool:
        """Remember an answer that brought no files (304). False, and nothing is changed, when something newer is
        remembered, or a generation and this answer had none."""
        held = None if seen.epoch else self.seen()
        if held is not None and held.epoch:
            return False
        self._make_directory()
        note = Placed(self.directory, ("seen",), _sealed(self._signed(seen)), _PRIVATE)
        return replace_files([note], unless=lambda: self._is_behind(seen))

    def keep(self, payload: NodeArtifactsPayload, seen: KnownGeneration) -> bool:
        """Remember an accepted payload, and that it was seen. Killed between the two, the payload is the newer one:
        the server says the same again. False, and nothing is changed, when something newer is remembered: two processes
        of one node may end in either order, and the cache never becomes a worse one. An answer without a generation
        leaves the newest generation that was seen where it is: who strips a header does not make a node forget."""
        head = self._signed(seen)
        parts: list[tuple[str, tuple[bytes, ...]]] = [("payload", (head, b"\n", *payload.chunks))]
        held = None if seen.epoch else self.seen()
        if held is None or not held.epoch:
            parts.append(("seen", (head,)))
        self._make_directory()
        files = [Placed(self.directory, (name,), _sealed(*body), _PRIVATE) for name, body in parts]
        return replace_files(files, unless=lambda: self._is_behind(seen))

    def cached(self) -> CachedPayload | None:
        """The last good payload, for a degraded start; None for none, for a damaged one, or for another node's."""
        cached = self._part("payload", self._cached)
        if cached is None:
            return None
        seen = self.seen()
        if seen is not None and seen.digest == cached.payload.digest and seen.at > cached.at:
            return CachedPayload(cached.payload, seen.epoch, seen.number, seen.at)
        return cached

    def _is_behind(self, seen: KnownGeneration) -> bool:
        held = self._part("seen", self._seen)
        if held is None or not seen.epoch:
            return False  # a static source has no order
        return (held.epoch, held.number) > (seen.epoch, seen.number)

    def _signed(self, seen: KnownGeneration) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(seen, identifier=self.identifier))

    def _seen(self, body: bytes) -> KnownGeneration:
        seen = msgspec.json.decode(body, type=KnownGeneration)
        if seen.identifier not in ("", self.identifier):
            raise _Foreign(f"is of the node {seen.identifier!r}, not of {self.identifier!r}")
        return seen

    def _cached(self, body: bytes) -> CachedPayload:
        head, _, rest = body.partition(b"\n")
        seen = self._seen(head)
        return CachedPayload(decode_payload(rest, seen.digest), seen.epoch, seen.number, seen.at)

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _make_directory(self) -> None:
        with on_disk(self.directory):
            make_directories(self.directory, 0o700)

    def _set_aside(self, path: str) -> None:
        if self._given is not None:
            # The operator's own file: a new secret in its place would only be refused by the server.
            raise DiskError(
                f"{path} holds no secret: 16 to 512 characters of A-Z a-z 0-9 . _ ~ + / = - in one line",
                "put the node's secret there, or remove the file and a new secret is made",
            )
        with on_disk(path):
            os.replace(path, path + ".damaged")
        self._complain(f"{path} is damaged: set aside as {path}.damaged, and a new secret is made")

    def _part(self, name: str, decode: Callable[[bytes], _T]) -> _T | None:
        path = self._path(name)
        self.unusable.pop(name, None)
        try:
            raw = _read(path)
            return None if raw is None else decode(_unsealed(raw))
        except DiskError:
            raise
        except _Foreign as error:
            why, what_to_do = str(error), ": give each node a state directory of its own"
        except _NoFile as error:
            why, what_to_do = str(error), ""
        except (ValueError, CfgsyncError) as error:
            why, what_to_do = f"is damaged ({error})", ""
        self.unusable[name] = why
        self._complain(f"{path} {why}; it is treated as absent{what_to_do}")
        return None


class _NoFile(Exception):
    """A pipe, a device or a directory in the place of a part: nothing that can be read twice."""


class _Foreign(Exception):
    """A part that another node wrote: two of them share a state directory."""


def _sealed(*body: bytes) -> bytes:
    """The body below a line with its digest: a flipped bit in a number is no other number, it is damage."""
    digest = sha256()
    for piece in body:
        digest.update(piece)
    return b"".join((f"{_SEAL}{digest.hexdigest()}\n".encode(), *body))


def _unsealed(raw: bytes) -> bytes:
    seal, _, body = raw.partition(b"\n")
    if seal != f"{_SEAL}{sha256(body).hexdigest()}".encode():
        raise ValueError("its first line is not the digest of the rest")
    return body


def _read(path: str, at_most: int = -1) -> bytes | None:
    with on_disk(path, "read"):
        try:
            with open(path, "rb", opener=_without_waiting) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise _NoFile("is not a regular file")
                return file.read(at_most)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.EISDIR, errno.ENXIO):  # a directory, a socket
                raise _NoFile("is not a regular file") from None
            raise


def _without_waiting(path: str, flags: int) -> int:
    """A pipe without a writer is opened at once, instead of never."""
    return os.open(path, flags | os.O_NONBLOCK)


def _to_stderr(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)
