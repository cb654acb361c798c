"""What one answer of a server means for the node: an outcome, a step on the way, or "try again"; without I/O or time."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import msgspec

from cfgsync_artifacts import CfgsyncError

from ..errors import IntegrityError, Unavailable
from ..store.contract import Version
from ..store.epoch import epoch_ms
from ..text import plain
from ..wire.headers import GENERATION, NEXT, SIGNATURE, VERSION, parse_digest
from ..wire.limits import MAX_PAYLOAD_BYTES
from ..wire.payload import decode_payload
from ..wire.protocol import CODE, MATERIALIZING, ErrorBody, NotReady, decode_error, describe
from .history import Regression, checked_generation, refuse_contradiction
from .outcomes import Current, Fetched, FetchFailed, MissingForGood, Outcome, Refused, Rejected, Untrusted
from .received_answer import ReceivedAnswer, RequestContext
from .trust.signature import NotSigned, signed

USE_TLS: Final = "give --server with https://"
RETRIED: Final = frozenset({404, 408, 425, 426, 429})
"""Statuses below 500 that are retried although cfgsync itself answers them; every 5xx is retried, too."""

_OTHER_CODES: Final = (
    "invalid_request not_found method_not_allowed forbidden unauthorized identity_conflict rate_limited"
)
CODES: Final = frozenset({*CODE.values(), *_OTHER_CODES.split()})
"""The codes in cfgsync's error bodies. An answer with another one, or without, is somebody else's."""

LONGEST_PAUSE: Final = 3600.0
"""In seconds; a maintenance page that asks for more must not keep a watching node away for days."""
NOT_OURS: Final = "is this a cfgsync server? check the URL"


class Registered(msgspec.Struct, frozen=True):
    """The registration is recorded. `version` is repeated on `/node`; it is None from an original server."""

    version: str | None


class Retry(msgspec.Struct, frozen=True):
    """No outcome yet. `why` is shown while the node waits; with `register` the node registers first; `retry_after` is in
    seconds. `not_ready` has the server's reason of a 425, `failed` its message of a 500. `foreign` is the status of an
    answer that is not cfgsync's, but that of a proxy or another program; 0 for cfgsync's."""

    why: str
    register: bool = False
    retry_after: float | None = None
    not_ready: NotReady | None = None
    failed: str | None = None
    hint: str = ""
    foreign: int = 0


Meaning: TypeAlias = Registered | Retry | Outcome


def read(answer: ReceivedAnswer, context: RequestContext) -> Meaning:
    """The meaning of `answer`; one that makes no sense is `Untrusted`."""
    status = answer.status
    if is_foreign(answer, context.path):
        return _foreign(answer)
    if status in (200, 202, 204):
        if context.path == "/register":
            if answer.cut:
                return _untrusted(
                    f"the answer to the registration is larger than {MAX_PAYLOAD_BYTES} bytes", NOT_OURS
                )
            return Registered(answer.headers.get(VERSION.lower()))
        return _files(answer, context) if status == 200 else _foreign(answer)
    if status == 304 and context.path == "/node" and context.known is not None:
        return _current(answer, context, context.known)
    if 400 <= status < 600:
        return _error(answer, context.identifier)
    return _foreign(answer)


def is_foreign(answer: ReceivedAnswer, path: str = "") -> bool:
    """True when a proxy, or another program at this address, has answered in cfgsync's place."""
    status, headers = answer.status, answer.headers
    if status >= 300:
        body = decode_error(answer.body)
        return status != 304 and (body is None or body.code not in CODES)
    if status == 200 and path == "/node" and not answer.cut:
        marked = GENERATION.lower() in headers or '"sha256-' in headers.get("etag", "")
        return not marked and not _HAS_VERSION.search(answer.body)
    return "json" not in headers.get("content-type", "json").lower()


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _files(answer: ReceivedAnswer, context: RequestContext) -> Outcome:
    if answer.cut:
        return _untrusted(f"the payload is larger than {MAX_PAYLOAD_BYTES} bytes", "make the files smaller")
    encoding = answer.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        return _untrusted(f"the answer is compressed ({plain(encoding)}), which was not asked for", _PROXY)
    try:
        generation, notice = checked_generation(answer.headers.get(GENERATION.lower()), context.seen)
        digest = parse_digest(answer.headers.get("etag"))
        payload = decode_payload(answer.body, digest)
        refuse_contradiction(generation, payload.digest, context.seen, context.seen_digest)
        signature, revision = _signed(answer, context, generation, payload.digest)
    except Regression as error:
        return _regressed(error, answer, context)
    except NotSigned as error:
        return _untrusted(str(error), error.hint, *_refused(answer))
    except IntegrityError as error:
        is_json = "json" in answer.headers.get("content-type", "json").lower()
        return _untrusted(str(error), _PROXY if is_json else NOT_OURS, *_refused(answer))
    to_acknowledge = digest if generation is None else payload.digest
    return Fetched(
        payload,
        generation,
        payload.digest,
        notice,
        to_acknowledge=to_acknowledge,
        signature=signature,
        revision=revision,
    )


def _current(answer: ReceivedAnswer, context: RequestContext, known: str) -> Outcome:
    try:
        generation, notice = checked_generation(answer.headers.get(GENERATION.lower()), context.seen)
        digest = parse_digest(answer.headers.get("etag"))
        if digest in (None, known):
            refuse_contradiction(generation, known, context.seen, context.seen_digest)
        signature = ""
        if generation is not None:  # the node would accept nothing older from then on
            signature, _ = _signed(answer, context, generation, known)
    except Regression as error:
        return _regressed(error, answer, context)
    except NotSigned as error:
        return _untrusted(str(error), error.hint, *_refused(answer))
    except IntegrityError as error:
        return _untrusted(str(error), _PROXY)
    if digest not in (None, known):
        return _untrusted(f"the server says unchanged, but names {digest} and not {known}", _PROXY)
    waits_for = "" if generation is not None else plain(answer.headers.get(NEXT.lower(), ""), 100)
    return Current(generation, known, notice, signature=signature, waits_for=waits_for)


def _signed(
    answer: ReceivedAnswer, context: RequestContext, generation: str | None, digest: str
) -> tuple[str, int]:
    text = answer.headers.get(SIGNATURE.lower())
    return signed(text, context.verify, context.identifier, generation, digest)


def _regressed(error: Regression, answer: ReceivedAnswer, context: RequestContext) -> Untrusted:
    assert context.seen is not None  # nothing was seen, so nothing can be older
    hint = (
        "if the server's store was restored from an older copy, or its clock is behind, stop the server"
        f" and give the store a new epoch (one with --store memory: starts again with --store memory:{context.seen.epoch}):"
        f" cfgsync store new-epoch --store URL --after {context.seen.epoch}"
    )
    return _untrusted(str(error), hint, *_refused(answer))


def _refused(answer: ReceivedAnswer) -> tuple[str | None, str | None]:
    """Generation and digest of a refused answer, only the digest from a static source; None for what does not decode."""
    text = answer.headers.get(GENERATION.lower())
    try:
        if text is not None:
            epoch_ms(Version.parse(text).epoch)
        return text, parse_digest(answer.headers.get("etag"))
    except (ValueError, IntegrityError):
        return None, None


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _error(answer: ReceivedAnswer, identifier: str) -> Meaning:
    status, body = answer.status, decode_error(answer.body)
    assert body is not None  # else it is foreign
    message = plain(body.message or body.code)
    if status == 404 and body.code == "missing_config":
        reason = f" ({plain(body.reason)})" if isinstance(body.reason, str) and body.reason else ""
        hint = "check the identifier: the server has files, but none for it; `cfgsync status` lists the nodes that get some"
        if reason:  # it is known by the server, whose reason says how to go on
            hint = f"the server says what to do, in brackets; so does `cfgsync status {identifier}`"
        return MissingForGood(plain(body.message) + reason, hint)
    if status in (401, 403, 409):
        hint = (
            "give the node the secret that it registered with (--state, --secret-file); if another node has taken its"
            f" name, free the name on the server: cfgsync node evict {identifier}"
        )
        if isinstance(body.hint, str) and body.hint:
            hint = plain(body.hint)
        return Refused(f"the server refused node {identifier}: {message}", hint)
    if status == 425:
        return _not_ready(answer, body)
    if status in RETRIED or status >= 500:
        return Retry(
            message,
            register=status >= 500,
            retry_after=_retry_after(answer, body),
            failed=message if status == 500 else None,
            hint=_retried_hint(status),
        )
    hint = NOT_OURS if status == 405 else "correct what the message names; nothing was registered"
    return Rejected(f"the server rejected the request: {message}", hint)


def _not_ready(answer: ReceivedAnswer, body: ErrorBody) -> Retry:
    registered = body.registered is True
    reason = plain(body.reason) if isinstance(body.reason, str) else ""
    conditions = body.conditions if isinstance(body.conditions, tuple) else ()
    after = _retry_after(answer, body)
    return Retry(
        describe(reason, conditions) or plain(body.message),
        register=not registered,
        retry_after=after,
        not_ready=NotReady(reason, conditions, after, registered),
        hint=MATERIALIZER_RUNS
        if reason == MATERIALIZING
        else "start what is missing, or wait longer (--wait); `cfgsync status` lists the nodes",
    )


def _retry_after(answer: ReceivedAnswer, body: ErrorBody | None) -> float | None:
    """The later of the header's seconds and the body's value, `LONGEST_PAUSE` at most; None without either."""
    given = []
    header = answer.headers.get("retry-after", "").strip()
    if header.isascii() and header.isdigit():
        given.append(min(float(header[:9]), LONGEST_PAUSE))
    if body is not None and isinstance(body.retry_after, int | float) and body.retry_after >= 0:
        given.append(min(float(body.retry_after), LONGEST_PAUSE))
    return max(given, default=None)


def _retried_hint(status: int) -> str:
    if status == 500:
        return "fix the materializer on the server; `cfgsync status` shows its reason"
    if status == 404:
        return NOT_OURS
    if status == 426:
        return USE_TLS
    if status == 429:
        return "the server limits the rate of requests: wait longer (--wait)"
    if status == 507:
        return "make room on the server, where the message says, or wait longer (--wait)"
    return "read the server's log, then wait longer (--wait)"


MATERIALIZER_RUNS: Final = (
    "the materializer has not returned yet: find out why on the server, or wait longer (--wait)"
)
_PROXY: Final = "a proxy between this node and the server may change answers: connect to the server directly"


def _untrusted(
    message: str, hint: str, generation: str | None = None, digest: str | None = None
) -> Untrusted:
    return Untrusted(message, f"nothing was written; {hint}", generation, digest)


def _foreign(answer: ReceivedAnswer) -> Retry:
    """An answer in cfgsync's place: it says nothing about the node, so the node asks again."""
    where = answer.headers.get("location")
    to = f" to {plain(where, 100)}" if where else ""
    encoding = answer.headers.get("content-encoding", "").strip().lower()
    compressed = (
        f" (compressed, {plain(encoding)}, which was not asked for)"
        if encoding not in ("", "identity")
        else ""
    )
    return Retry(
        f"HTTP {answer.status}{to}{compressed} that is not from cfgsync",
        register=answer.status >= 500 or answer.status == 425,
        retry_after=_retry_after(answer, None),
        hint=NOT_OURS,
        foreign=answer.status,
    )


_HAS_VERSION: Final = re.compile(rb'^\s*\{.*"schema_version"', re.DOTALL)


def as_error(meaning: Meaning) -> CfgsyncError:
    """The exception for a meaning that the call does not return."""
    match meaning:
        case Retry():
            return Unavailable(meaning.why)
        case Untrusted():
            return IntegrityError(meaning.message)
        case Registered() | Fetched() | Current():
            return IntegrityError("the answer does not fit the request")
        case _:
            return FetchFailed(meaning)
