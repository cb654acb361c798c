"""The wire: schema version 1 of the original cfgsync, plus what an original client or server never notices.

Source: `protocol.md`; golden bytes in `tests/core/golden/`. Bytes become words here, once, and words become bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, TypeAlias

import msgspec

from cfgsync_artifacts import ArtifactFile, ArtifactSet, CfgsyncError, digest_of

from . import strict_json
from .errors import (
    IntegrityError,
    InvalidRegistration,
    InvalidRequest,
    MaterializationFailed,
    OutcomeUnknown,
    StoreFull,
    Unavailable,
)
from .registration import (
    EMPTY,
    MAX_METADATA_BYTES,
    NodeRegistration,
    RegistrationPayload,
    check_identifier,
    check_ip,
    check_metadata,
)

SCHEMA_VERSION: Final = 1
MAX_WAIT: Final = 30.0
ACCEPT_EXTENDED: Final = "base64, mode"

ACCEPT = "Cfgsync-Accept"
GENERATION = "Cfgsync-Generation"
VERSION = "Cfgsync-Version"


# ── outcomes of a question, and their status ─────────────────────────────────────────────────────────────────────────


class Condition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One unmet condition as data: `have` of `need`, and the identifiers that are `missing`, when they are known."""

    name: str
    have: int
    need: int
    missing: tuple[str, ...] = ()


class NotReady(msgspec.Struct, frozen=True):
    """Not yet, and why. A materializer returns `NotReady("waiting for 3 nodes, have 1")`; `retry_after` is in how many
    seconds it wants to be asked again (default 5), since readiness may depend on time.

    As an answer to a node, `retry_after` is when the node may ask again and `registered` whether it is known.
    """

    reason: str = ""
    conditions: tuple[Condition, ...] = ()
    retry_after: float | None = None
    registered: bool = True


class Missing(msgspec.Struct, frozen=True):
    """This identifier will get nothing: the artifacts are ready and it is not among them."""

    reason: str = ""


class Ready(msgspec.Struct, frozen=True):
    """The files of one node. `generation` is `<epoch>.<number>`, None for a static source."""

    payload: NodeArtifactsPayload
    generation: str | None = None


class Unchanged304(msgspec.Struct, frozen=True):
    """The node already has these files (a `Ready` whose digest the node named)."""


STATUS: Final[dict[type, int]] = {
    Ready: 200,
    Unchanged304: 304,
    NotReady: 425,
    Missing: 404,
    MaterializationFailed: 500,
    StoreFull: 507,
    OutcomeUnknown: 503,
    Unavailable: 503,
}
"""The one table from an outcome to its status; server and client share it."""

CODE: Final[dict[int, str]] = {
    425: "not_ready",
    404: "missing_config",
    500: "internal",
    503: "unavailable",
    507: "unavailable",
}
"""The body `code` of an outcome's status."""


# ── registrations ────────────────────────────────────────────────────────────────────────────────────────────────────


class _Body(msgspec.Struct, gc=False):
    identifier: str
    ip: str | msgspec.UnsetType = msgspec.UNSET
    metadata: msgspec.Raw = msgspec.Raw(b"")


class _RegistrationOut(msgspec.Struct, gc=False, omit_defaults=True):
    identifier: str
    ip: str
    metadata: msgspec.Raw | None = None


_decode_body = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode
_FIELD = re.compile(r" - at `\$\.?(.*?)`$")


def encode_registration(registration: NodeRegistration) -> bytes:
    """The body of `POST /register` and `POST /node`: compact, keys in wire order, metadata keys sorted."""
    json = registration.payload.json
    raw = None if json is None else msgspec.Raw(json.encode())
    return _encode(_RegistrationOut(registration.identifier, registration.ip, raw))


def decode_registration(body: bytes) -> NodeRegistration:
    """The registration in a `POST /register` body. Raises `InvalidRequest` (400, 413 or 422)."""
    words = _words(body)
    if words.ip is msgspec.UNSET:
        raise InvalidRequest(422, 'ip: missing; a registration is {"identifier", "ip", "metadata"?}')
    try:
        return NodeRegistration(words.identifier, words.ip, _metadata(words.metadata))
    except InvalidRegistration as error:
        raise InvalidRequest(422, str(error)) from error


def decode_stored(value: bytes) -> NodeRegistration:
    """The registration that `encode_registration` made: canonical already, so it is not spelled again."""
    words = _decode_body(value)
    raw = bytes(words.metadata)
    return NodeRegistration(
        words.identifier, str(words.ip), RegistrationPayload(raw.decode()) if raw else EMPTY
    )


def decode_question(body: bytes) -> str:
    """The identifier in a `POST /node` body; only it is needed, but what is there must be well-formed."""
    words = _words(body)
    try:
        if words.ip is not msgspec.UNSET:
            check_ip(words.ip)
        return check_identifier(words.identifier)
    except InvalidRegistration as error:
        raise InvalidRequest(422, str(error)) from error


def _words(body: bytes) -> _Body:
    try:
        text = body.decode()
        words = _decode_body(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(422, _in_words(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(400, f"not JSON: {error}") from error
    if (
        b"\\" in body
        or body.count(b'"identifier"') > 1
        or body.count(b'"ip"') > 1
        or body.count(b'"metadata"') > 1
    ):
        _refuse_doubles(text)
    return words


def _refuse_doubles(text: str) -> None:
    """A known top-level key given twice is refused as the original does; keys inside metadata and unknown ones are free."""
    try:
        pairs = strict_json.top_level_pairs(text)
    except ValueError as error:
        raise InvalidRequest(400, f"not JSON: {error}") from error
    seen: set[str] = set()
    for key, _ in pairs or ():
        if key in seen and key in ("identifier", "ip", "metadata"):
            raise InvalidRequest(422, f"{key}: given twice")
        seen.add(key)


def _metadata(raw: msgspec.Raw) -> RegistrationPayload:
    data = bytes(raw)
    if not data or data == b"null":
        return EMPTY
    if (
        data.count(b"{") + data.count(b"[") > strict_json.MAX_DEPTH
        and strict_json.depth(data) > strict_json.MAX_DEPTH
    ):
        raise InvalidRequest(400, f"not JSON: metadata is nested deeper than {strict_json.MAX_DEPTH}")
    try:
        text = strict_json.canonical(strict_json.loads(data.decode()))
    except ValueError as error:
        raise InvalidRequest(400, f"metadata: {error}") from error
    if len(text) * 4 > MAX_METADATA_BYTES and (size := len(text.encode())) > MAX_METADATA_BYTES:
        raise InvalidRequest(413, f"metadata: {size} bytes, at most {MAX_METADATA_BYTES} are taken")
    return RegistrationPayload(check_metadata(text))


def _in_words(message: str) -> str:
    """msgspec's message with the field in front: ``Expected `str`, got `int` - at `$.ip` `` → ``ip: expected …``."""
    found = _FIELD.search(message)
    text = _FIELD.sub("", message)
    text = text[:1].lower() + text[1:]
    if found and found[1]:
        return f"{found[1]}: {text}"
    if (named := re.search(r"field `(\w+)`", message)) is not None:
        return f"{named[1]}: missing"
    return f"body: {text}"


# ── payloads ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _FileOut(msgspec.Struct, gc=False, omit_defaults=True):
    path: str
    content: str
    mode: str = "0644"
    encoding: str = "text"


class _PayloadIn(msgspec.Struct, gc=False):
    schema_version: int
    files: list[_FileOut] = []


def encode_files(files: Iterable[ArtifactFile]) -> bytes:
    """The file objects of a payload, separated by commas, without the brackets: what is stored and joined."""
    return _encode(
        [
            _FileOut(f.path, base64.b64encode(f.content).decode(), f.mode, "base64")
            if isinstance(f.content, bytes)
            else _FileOut(f.path, f.content, f.mode)
            for f in files
        ]
    )[1:-1]


class NodeArtifactsPayload:
    """What one node is answered: its files, node-local first, then shared; encoded once, decoded when looked at.

    `digest` is `sha256-<hex>` of the file set; `extended` is the first path that only `Cfgsync-Accept: base64, mode`
    may receive, None for a plain payload. `chunks` are the body's bytes in order; the shared chunk is one object.
    """

    __slots__ = ("_files", "_local", "_shared", "digest", "extended")
    schema_version = SCHEMA_VERSION

    def __init__(self, local: bytes, shared: bytes, digest: str, extended: str | None = None) -> None:
        self._local = local
        self._shared = shared
        self.digest = digest
        self.extended = extended
        self._files: tuple[ArtifactFile, ...] | None = None

    @classmethod
    def from_files(cls, local: ArtifactSet, shared: ArtifactSet | None = None) -> NodeArtifactsPayload:
        """The payload of these files. Raises `DuplicatePath` when a shared path is also a local one."""
        whole = local + shared if shared else local
        made = cls(
            encode_files(local),
            encode_files(shared) if shared else b"",
            digest_of(local.manifest, shared.manifest if shared else b""),
            first_extended(whole),
        )
        made._files = whole.files
        return made

    @property
    def chunks(self) -> tuple[bytes, ...]:
        """The body in pieces, so that a shared piece is held once however many nodes are being answered."""
        comma = b"," if self._local and self._shared else b""
        return (b'{"schema_version":1,"files":[' + self._local + comma, self._shared, b"]}")

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)

    @property
    def size_bytes(self) -> int:
        return 31 + len(self._local) + len(self._shared) + (1 if self._local and self._shared else 0)

    @property
    def files(self) -> tuple[ArtifactFile, ...]:
        if self._files is None:
            self._files = _decode_files(self.body)
        return self._files

    def is_empty(self) -> bool:
        return not self._local and not self._shared

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, NodeArtifactsPayload) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"NodeArtifactsPayload({self.digest}, {[f.path for f in self.files]})"


def first_extended(files: Iterable[ArtifactFile]) -> str | None:
    """The first path that an original client would write wrongly, None when there is none."""
    return next((f.path for f in files if not f.is_plain), None)


def decode_payload(body: bytes, etag: str | None = None) -> NodeArtifactsPayload:
    """The payload in a 200 body, checked against its `ETag` digest when there is one.

    Raises `IntegrityError`: not a payload, another schema version, an illegal file, two equal paths, wrong digest.
    """
    files = ArtifactSet(_decode_files(body))
    if etag is not None and etag != files.digest:
        raise IntegrityError(f"the files have digest {files.digest}, the server said {etag}")
    made = NodeArtifactsPayload(encode_files(files), b"", files.digest, first_extended(files))
    made._files = files.files
    return made


def _decode_files(body: bytes) -> tuple[ArtifactFile, ...]:
    try:
        payload = msgspec.json.decode(body, type=_PayloadIn)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"the answer is not a cfgsync payload: {error}") from error
    if payload.schema_version != SCHEMA_VERSION:
        raise IntegrityError(
            f"unsupported cfgsync payload schema version {payload.schema_version}, expected {SCHEMA_VERSION}"
        )
    try:
        return ArtifactSet(ArtifactFile(f.path, _content(f), f.mode) for f in payload.files).files
    except CfgsyncError as error:
        raise error if isinstance(error, IntegrityError) else IntegrityError(str(error)) from error


def _content(file: _FileOut) -> str | bytes:
    if file.encoding == "text":
        return file.content
    if file.encoding != "base64":
        raise IntegrityError(f"file {file.path!r} has the unknown encoding {file.encoding!r}")
    try:
        return base64.b64decode(file.content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise IntegrityError(f"file {file.path!r} is not base64: {error}") from error


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Every body that is not a payload. `not_ready` adds the keys after `message`."""

    code: str
    message: str
    registered: bool | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    conditions: tuple[Condition, ...] | msgspec.UnsetType = msgspec.UNSET
    retry_after: float | msgspec.UnsetType = msgspec.UNSET


def encode_error(code: str, message: str, **more: object) -> bytes:
    """`{"code":…,"message":…}` and what more there is to say."""
    return _encode({"code": code, "message": message, **more})


def encode_not_ready(identifier: str, answer: NotReady) -> bytes:
    """The 425 body: the original's words, then who is missing and why."""
    wait = answer.retry_after if answer.retry_after is not None else 1
    return encode_error(
        "not_ready",
        f"config for host {identifier} is not ready",
        registered=answer.registered,
        reason=answer.reason,
        conditions=answer.conditions,
        retry_after=int(wait) if wait == int(wait) else wait,
    )


def encode_missing(identifier: str, answer: Missing) -> bytes:
    """The 404 body: the original's words, and a reason when there is one."""
    more = {"reason": answer.reason} if answer.reason else {}
    return encode_error("missing_config", f"missing config for host {identifier}", **more)


def decode_error(body: bytes) -> ErrorBody | None:
    """The error in a body, None when it is not one of ours (a proxy's page, an original's plain text)."""
    try:
        return msgspec.json.decode(body, type=ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


# ── headers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)
_ETAG = re.compile(r'"([^"]*)"')
Etag: TypeAlias = Annotated[str, "sha256-<64 hex>"]
_SHA256 = re.compile(r"sha256-[0-9a-f]{64}")


def parse_wait(prefer: str | None) -> float:
    """The seconds of `Prefer: wait=20`, at most 30; 0 without one (RFC 7240)."""
    found = _WAIT.search(prefer) if prefer else None
    return min(float(found[1]), MAX_WAIT) if found else 0.0


def parse_etags(header: str | None) -> Sequence[Etag]:
    """The entity tags of `If-None-Match`, without quotes."""
    return _ETAG.findall(header) if header else ()


def parse_digest(etag: str | None) -> Etag | None:
    """The digest in an answer's `ETag`; None for none or for one that is not ours.

    Raises `IntegrityError` for a tag that claims to be a digest and is none.
    """
    if not etag or not etag.strip('W/"').startswith("sha256-"):
        return None
    digest = etag[1:-1] if etag.startswith('"') and etag.endswith('"') else etag
    if not _SHA256.fullmatch(digest):
        raise IntegrityError(f"the ETag {etag[:100]} is not a digest")
    return digest
