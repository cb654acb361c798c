"""A node's report on a generation: applied, or failed and why. The body of `POST /ack`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self, TypeAlias

import msgspec

from ..errors import InvalidRequest
from ..store.contract import Version
from ..store.epoch import epoch_ms
from ..text import as_unicode
from .headers import is_digest, is_group
from .limits import MAX_REASON
from .registration import Identifier, check_identifier
from .request_body import RequestBody

_Generation: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        extra_json_schema={
            "pattern": r"^[0-7][0-9a-f]{7}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.(0|[1-9][0-9]{0,17})$"
        }
    ),
]
_Digest: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^sha256-[0-9a-f]{64}$"})]
_Group: TypeAlias = Annotated[
    str, msgspec.Meta(extra_json_schema={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"})
]

MAX_DRIFTED: Final = 10
MAX_PATH: Final = 1024  # characters of one of these paths


class StaticAcknowledgement(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An acknowledgement to a static source, which has no generations."""

    identifier: Identifier
    digest: _Digest
    status: Literal["applied", "failed"]
    reason: str | None = None
    drifted: tuple[str, ...] = ()


class GenerationAcknowledgement(StaticAcknowledgement, frozen=True, kw_only=True):
    """An acknowledgement to a source with generations. `group`: the node takes turns in this group. `words` are the last lines of
    its program."""

    generation: _Generation
    group: _Group | None = None
    words: str | None = None


class _Body(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Either of them, with its keys in wire order."""

    identifier: Identifier
    generation: _Generation | msgspec.UnsetType = msgspec.UNSET
    digest: _Digest
    status: Literal["applied", "failed"]
    reason: str | None = None
    drifted: tuple[str, ...] = ()
    group: _Group | None = None
    words: str | None = None


class Acknowledgement(msgspec.Struct, frozen=True):
    """One node has applied, or could not apply, the files with `digest` (`sha256-<hex>`) of `generation`
    (`<epoch>.<number>`, None from a static source). `reason` says why it failed, in at most `MAX_REASON` characters. `drifted`
    are paths of the payload whose files were changed on the node's disk; the first 10 are kept. `group`: the node takes
    turns in this group, None when it takes none. `words` are the last lines of a program that failed, for operators and
    readers with a token: they may quote what is in a file."""

    identifier: str
    generation: str | None
    digest: str
    status: Literal["applied", "failed"]
    reason: str | None = None
    drifted: tuple[str, ...] = ()
    group: str | None = None
    words: str | None = None

    @classmethod
    def of(
        cls,
        identifier: str,
        generation: str | None,
        digest: str | None,
        failure: str | None = None,
        drifted: Sequence[str] = (),
        group: str | None = None,
        words: str = "",
    ) -> Self | None:
        """Applied, or failed because of `failure`; None without a digest: the server takes no acknowledgement."""
        if digest is None:
            return None
        status: Literal["applied", "failed"] = "applied" if failure is None else "failed"
        return cls(identifier, generation, digest, status, failure, tuple(drifted), group, words or None)


_body = RequestBody(_Body)
_encode = msgspec.json.Encoder().encode


def encode_acknowledgement(acknowledgement: Acknowledgement) -> bytes:
    """The body of `POST /ack`: compact, keys in wire order, the reason and `drifted` within their limits."""
    words = msgspec.structs.asdict(_within_limits(acknowledgement))
    return _encode(_Body(**words | {"generation": words["generation"] or msgspec.UNSET}))


def decode_acknowledgement(body: bytes) -> Acknowledgement:
    """The acknowledgement in a `POST /ack` body. Raises `InvalidRequest` (400 or 422)."""
    decoded = _body.decode(body)
    check_identifier(decoded.identifier)
    generation = decoded.generation or None
    if generation is not None:
        _check_generation(generation)
    if not is_digest(decoded.digest):
        raise InvalidRequest(422, "digest: expected sha256- and 64 lower-case hex digits")
    if decoded.group is not None and not is_group(decoded.group):
        raise InvalidRequest(
            422, "group: expected a letter or digit, then letters, digits, '.', '_' and '-', 64 at most"
        )
    words = msgspec.structs.asdict(decoded)
    return _within_limits(Acknowledgement(**words | {"generation": generation}))


def _check_generation(text: str) -> None:
    try:
        generation = Version.parse(text)
        epoch_ms(generation.epoch)
    except ValueError as error:
        raise InvalidRequest(422, "generation: expected <epoch>.<number>, the epoch a UUIDv7") from error
    if str(generation) != text:
        raise InvalidRequest(422, "generation: expected a number without leading zeros")


def _within_limits(given: Acknowledgement) -> Acknowledgement:
    # as Unicode: all may name a file whose name is not UTF-8
    reason = None if given.reason is None else as_unicode(given.reason[:MAX_REASON]) or None
    words = None if given.words is None else as_unicode(given.words[-MAX_REASON:]) or None
    drifted = tuple(as_unicode(path[:MAX_PATH]) for path in given.drifted[:MAX_DRIFTED])
    return msgspec.structs.replace(given, reason=reason, drifted=drifted, words=words)
