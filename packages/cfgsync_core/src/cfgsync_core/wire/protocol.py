"""The wire: schema version 1 of the original cfgsync, plus extensions that an original client or server never notices.

Golden bytes are in `tests/core/golden/`.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final

import msgspec

from ..errors import (
    InvalidRequest,
    MaterializationFailed,
    OutcomeUnknown,
    StaleGeneration,
    StoreFull,
    Unavailable,
)
from ..text import plain
from . import strict_json
from .limits import MAX_ERROR_BYTES, MAX_JSON_DEPTH
from .payload import NodeArtifactsPayload
from .registration import (
    EMPTY,
    Identifier,
    NodeRegistration,
    RegistrationPayload,
    check_identifier,
    check_ip,
    check_metadata,
)
from .request_body import RequestBody

# ── outcomes of a request, and their status ──────────────────────────────────────────────────────────────────────────


class Condition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One unmet condition as data: `have` of `need`, the identifiers that are `missing` if they are known, and a `note`,
    such as a deadline that has passed."""

    name: str
    have: int
    need: int
    missing: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.note, str):
            raise TypeError("the name and the note of a Condition are text")
        if not isinstance(self.have, int) or not isinstance(self.need, int):
            raise TypeError(f"Condition {self.name!r}: have and need are counts")
        if type(self.missing) is not tuple:
            msgspec.structs.force_setattr(self, "missing", _tuple(self.missing, "identifiers"))


_NAMES_SHOWN: Final = 8


MATERIALIZING: Final = "materializing"
"""The reason of `not_ready` while the materializer runs."""


def describe(reason: str, conditions: tuple[Condition, ...]) -> str:
    """What is missing, in one line: `3 of 5 nodes, missing node-4, node-5`; `reason` without conditions."""
    lines = []
    for condition in conditions:
        what = condition.name if condition.name != "quorum" else "node" if condition.need == 1 else "nodes"
        names = ", ".join(condition.missing[:_NAMES_SHOWN])
        more = len(condition.missing) - _NAMES_SHOWN
        missing = f", missing {names}" + (f" and {more} more" if more > 0 else "") if names else ""
        note = f"; {condition.note}" if condition.note else ""
        lines.append(f"{condition.have} of {condition.need} {what}{missing}{note}")
    return plain("; ".join(lines) or reason)


class NotReady(msgspec.Struct, frozen=True):
    """Not yet, and why: `NotReady("waiting for 3 nodes, have 1")`. The materializer that returns it runs again after
    `retry_after` seconds (default 5). A node that is answered so may ask again then; `registered` says whether it is."""

    reason: str = ""
    conditions: tuple[Condition, ...] = ()
    retry_after: float | None = None
    registered: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str):
            raise TypeError(f"the reason of a NotReady is text, not {type(self.reason).__name__}")
        if type(self.conditions) is not tuple:
            msgspec.structs.force_setattr(self, "conditions", _tuple(self.conditions, "Condition"))
        if not all(isinstance(condition, Condition) for condition in self.conditions):
            raise TypeError("the conditions of a NotReady are a list of Condition")
        again = self.retry_after
        if again is None:
            return
        if not isinstance(again, int | float):
            raise TypeError(f"retry_after is a number of seconds, not {type(again).__name__}")
        if not 0 <= again < inf:
            raise ValueError(f"retry_after={again}: give a number of seconds, 0 or more")


def _tuple(given: object, wanted: str) -> tuple[Any, ...]:
    if not isinstance(given, list | set | frozenset):
        raise TypeError(f"expected a list of {wanted}, got {type(given).__name__}")
    return tuple(given)


class Missing(msgspec.Struct, frozen=True):
    """This identifier will get nothing: the artifacts are ready and it is not among them."""

    reason: str = ""


class Ready(msgspec.Struct, frozen=True):
    """The files of one node. `generation` is `<epoch>.<number>`, None for a static source. `again`: the node gets them also
    if it has named them, since it tries what it has refused once more."""

    payload: NodeArtifactsPayload
    generation: str | None = None
    again: bool = False


class Unchanged304(msgspec.Struct, frozen=True):
    """The node already has these files (a `Ready` whose digest the node named)."""


class Kept(msgspec.Struct, frozen=True):
    """It is not the node's turn: it keeps the files that it has named. `next` is the generation that waits."""

    next: str


STATUS: Final[dict[type, int]] = {
    Ready: 200,
    Unchanged304: 304,
    Kept: 304,
    NotReady: 425,
    Missing: 404,
    MaterializationFailed: 500,
    StaleGeneration: 409,
    StoreFull: 507,
    OutcomeUnknown: 503,
    Unavailable: 503,
}
"""From an outcome to its status, for server and client."""

CODE: Final[dict[int, str]] = {
    425: "not_ready",
    404: "missing_config",
    409: "stale_generation",
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


_body = RequestBody(_Body)
_decode_own = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode


def encode_registration(registration: NodeRegistration) -> bytes:
    """The body of `POST /register` and `POST /node`: compact, keys in wire order, metadata keys sorted."""
    json = registration.payload.json
    raw = None if json is None else msgspec.Raw(json.encode())
    return _encode(_RegistrationOut(registration.identifier, registration.ip, raw))


def decode_registration(body: bytes) -> NodeRegistration:
    """The registration in a `POST /register` body. Raises `InvalidRequest` (400, 413 or 422)."""
    decoded = _body.decode(body)
    if decoded.ip is msgspec.UNSET:
        raise InvalidRequest(422, 'ip: missing; a registration is {"identifier", "ip", "metadata"?}')
    return NodeRegistration(decoded.identifier, decoded.ip, _metadata(decoded.metadata))


def decode_stored(value: bytes) -> NodeRegistration:
    """The registration that `encode_registration` encoded."""
    decoded = _decode_own(value)
    raw = bytes(decoded.metadata)
    return NodeRegistration(
        decoded.identifier, str(decoded.ip), RegistrationPayload(raw.decode()) if raw else EMPTY
    )


class NodeRequest(msgspec.Struct, frozen=True, gc=False):
    """A body that names one node."""

    identifier: Identifier


def decode_node_request(body: bytes) -> NodeRequest:
    """The node in a `POST /node` body, which may be a whole, valid registration."""
    decoded = _body.decode(body)
    if decoded.ip is not msgspec.UNSET:
        check_ip(decoded.ip)
    return NodeRequest(check_identifier(decoded.identifier))


def _metadata(raw: msgspec.Raw) -> RegistrationPayload:
    data = bytes(raw)
    if not data or data == b"null":
        return EMPTY
    if data.count(b"{") + data.count(b"[") > MAX_JSON_DEPTH and strict_json.depth(data) > MAX_JSON_DEPTH:
        raise InvalidRequest(400, f"not JSON: metadata is nested deeper than {MAX_JSON_DEPTH}")
    try:
        text = strict_json.canonical_of(data)
    except ValueError as error:
        raise InvalidRequest(400, f"metadata: {error}") from error
    return RegistrationPayload(check_metadata(text))


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Every body that is not a payload. `not_ready` adds the keys after `message`, a refusal may add what to do (`hint`)."""

    code: str
    message: str
    registered: bool | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    conditions: tuple[Condition, ...] | msgspec.UnsetType = msgspec.UNSET
    retry_after: float | msgspec.UnsetType = msgspec.UNSET
    hint: str | msgspec.UnsetType = msgspec.UNSET


def encode_error(code: str, message: str, **more: object) -> bytes:
    """`{"code":…,"message":…}` and further keys."""
    return _encode({"code": code, "message": message, **more})


def encode_not_ready(identifier: str, answer: NotReady) -> bytes:
    """The 425 body: the original's keys, then the reason and the conditions."""
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
    """The 404 body: the original's keys, and a reason if there is one."""
    more = {"reason": answer.reason} if answer.reason else {}
    return encode_error("missing_config", f"missing config for host {identifier}", **more)


def decode_error(body: bytes) -> ErrorBody | None:
    """The error in a body; None for another kind of body (a proxy's page, an original's plain text) or one that is too
    large."""
    if len(body) > MAX_ERROR_BYTES:
        return None
    try:
        return msgspec.json.decode(body, type=ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
