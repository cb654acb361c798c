"""What one answer of a server means to the node that asked: an ending, a step on the way, or "ask again".

One table of statuses for every carrier (`node.md`, "Commands"); nothing here knows the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from ..errors import IntegrityError
from ..store.contract import Version
from ..store.epoch import epoch_ms
from ..wire.headers import GENERATION, VERSION, parse_digest
from ..wire.payload import decode_payload
from ..wire.protocol import Condition, ErrorBody, NotReady, decode_error
from .outcomes import Current, Fetched, MissingForGood, Outcome, Refused, Rejected, Untrusted

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""What a carrier reads of one body at most."""

RETRIED: Final = frozenset({404, 408, 425, 429})
"""Statuses below 500 that another try may change; every 5xx is retried too."""

NOT_OURS: Final = "is this a cfgsync server? check the URL"

_NAMES_SHOWN = 8
_WORDS_SHOWN = 600


class ReceivedAnswer(msgspec.Struct, frozen=True):
    """What came back: header names in lower case; `cut` when the body was longer than the cap and is not all here."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    cut: bool = False


class RequestContext(msgspec.Struct, frozen=True):
    """What an answer is an answer to. `known` is the digest sent in `If-None-Match`, `seen` the newest generation that
    this node was ever answered from, and `seen_digest` what it was given then."""

    path: Literal["/register", "/node"]
    identifier: str
    known: str | None = None
    seen: Version | None = None
    seen_digest: str | None = None


class Registered(msgspec.Struct, frozen=True):
    """The registration is recorded; `version` is to be repeated on `/node`, None from an original server."""

    version: str | None


class Again(msgspec.Struct, frozen=True):
    """No ending yet. `why` is for who waits; `register` asks to register first; `retry_after` is in seconds.

    `not_ready` holds the server's reason when it said 425, `failed` its message when it said 500.
    """

    why: str
    register: bool = False
    retry_after: float | None = None
    not_ready: NotReady | None = None
    failed: str | None = None
    hint: str = ""


Meaning: TypeAlias = Registered | Again | Outcome


def read(answer: ReceivedAnswer, question: RequestContext) -> Meaning:
    """The meaning of `answer`. Never raises: an answer that makes no sense is `Untrusted`."""
    status = answer.status
    if status in (200, 202, 204):
        if question.path == "/register":
            if answer.cut:
                return _untrusted(
                    f"the answer to the registration is larger than {MAX_ANSWER_BYTES} bytes", NOT_OURS
                )
            return Registered(answer.headers.get(VERSION.lower()))
        return _files(answer, question) if status == 200 else _odd(answer)
    if status == 304 and question.path == "/node" and question.known is not None:
        return _current(answer, question, question.known)
    if 400 <= status < 600:
        return _error(answer, question.identifier)
    return _odd(answer)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _files(answer: ReceivedAnswer, question: RequestContext) -> Outcome:
    generation = answer.headers.get(GENERATION.lower())
    if answer.cut:
        return _untrusted(f"the payload is larger than {MAX_ANSWER_BYTES} bytes", "make the files smaller")
    if (encoding := answer.headers.get("content-encoding", "identity").strip().lower()) not in (
        "",
        "identity",
    ):
        return _untrusted(f"the answer is compressed ({plain(encoding)}), which was not asked for", _PROXY)
    digest = None
    try:
        generation, notice = _checked_generation(answer, question.seen)
        digest = parse_digest(answer.headers.get("etag"))
        payload = decode_payload(answer.body, digest)
        _refuse_contradiction(generation, payload.digest, question)
    except Regression as error:
        return _regressed(error, answer, question)
    except IntegrityError as error:
        hint = NOT_OURS if not _is_json(answer) else _PROXY
        return _untrusted(str(error), hint, *_refused(answer))
    return Fetched(payload, generation, payload.digest, notice)


def _current(answer: ReceivedAnswer, question: RequestContext, known: str) -> Outcome:
    try:
        generation, notice = _checked_generation(answer, question.seen)
        digest = parse_digest(answer.headers.get("etag"))
        if digest in (None, known):
            _refuse_contradiction(generation, known, question)
    except Regression as error:
        return _regressed(error, answer, question)
    except IntegrityError as error:
        return _untrusted(str(error), _PROXY)
    if digest not in (None, known):
        return _untrusted(f"the server says unchanged, but names {digest} and not {known}", _PROXY)
    return Current(generation, known, notice)


class Regression(IntegrityError):
    """The server answers from before what this node has seen, or from another history of the same number."""


def _checked_generation(answer: ReceivedAnswer, seen: Version | None) -> tuple[str | None, str]:
    """The generation's text and a notice. Raises `Regression`; `IntegrityError` for a header that does not decode."""
    text = answer.headers.get(GENERATION.lower())
    if text is None:
        if seen is None:
            return None, ""
        return (
            None,
            f"the server names no generation, and this node has seen {seen}: is it another kind of server?",
        )
    try:
        got = Version.parse(text)
        age = (epoch_ms(got.epoch), got.epoch)
    except ValueError as error:
        raise IntegrityError(f"the generation {plain(text, 100)!r} is not <epoch>.<number>") from error
    if seen is None:
        return text, ""
    if got.epoch == seen.epoch:
        if got.revision < seen.revision:
            raise Regression(
                f"the server went back: it answers with generation {got}, this node has seen {seen}"
            )
        return text, ""
    if age < (epoch_ms(seen.epoch), seen.epoch):
        raise Regression(
            f"the server answers from an older epoch: with generation {got}, this node has seen {seen}"
        )
    return text, f"the server has begun a new epoch: {got}, after {seen}"


def _refuse_contradiction(generation: str | None, digest: str, question: RequestContext) -> None:
    """One generation gives a node one set of files, for ever (INV-6)."""
    if (
        generation is not None
        and question.seen_digest not in (None, digest)
        and Version.parse(generation) == question.seen
    ):
        raise Regression(
            f"the server gives generation {generation} as {digest}, this node has seen the same generation as"
            f" {question.seen_digest}"
        )


def _regressed(error: Regression, answer: ReceivedAnswer, question: RequestContext) -> Untrusted:
    assert question.seen is not None  # nothing was seen, so nothing can be older
    hint = (
        "nothing was written; if the server's store was restored from an older copy, stop the server and give the store"
        f" a new epoch: cfgsync store new-epoch --store URL --after {question.seen.epoch}"
    )
    return _untrusted(str(error), hint, *_refused(answer))


def _refused(answer: ReceivedAnswer) -> tuple[str | None, str | None]:
    """Which generation, and which digest, an answer that is not taken was of; None for what does not decode."""
    text = answer.headers.get(GENERATION.lower(), "")
    try:
        epoch_ms(Version.parse(text).epoch)
        return text, parse_digest(answer.headers.get("etag"))
    except (ValueError, IntegrityError):
        return None, None


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _error(answer: ReceivedAnswer, identifier: str) -> Meaning:
    status, body = answer.status, decode_error(answer.body)
    said = _said(status, body)
    if status == 404 and body is not None and body.code == "missing_config":
        reason = f" ({plain(body.reason)})" if isinstance(body.reason, str) and body.reason else ""
        hint = "is the identifier right? the server has files, and none for it; `cfgsync status` shows who gets some"
        return MissingForGood(plain(body.message) + reason, hint)
    if status in (401, 403, 409):
        return Refused(f"the server refused node {identifier}: {said}", _rebind(identifier))
    if status == 425:
        return _not_ready(answer, body, identifier)
    if status in RETRIED or status >= 500:
        return Again(
            said,
            register=status >= 500,
            retry_after=_retry_after(answer, body),
            failed=plain(body.message) if status == 500 and body else said if status == 500 else None,
            hint=_retried_hint(status, body),
        )
    hint = NOT_OURS if body is None or status == 405 else "mend what it names; nothing was registered"
    return Rejected(f"the server does not take the request: {said}", hint)


def _not_ready(answer: ReceivedAnswer, body: ErrorBody | None, identifier: str) -> Again:
    registered = body is not None and body.registered is True
    reason = plain(body.reason) if body is not None and isinstance(body.reason, str) else ""
    conditions = body.conditions if body is not None and isinstance(body.conditions, tuple) else ()
    after = _retry_after(answer, body)
    words = describe(reason, conditions) or (
        plain(body.message) if body else f"config for host {identifier} is not ready"
    )
    return Again(
        words,
        register=not registered,
        retry_after=after,
        not_ready=NotReady(reason, conditions, after, registered),
        hint="start what is missing, or wait longer (--wait); `cfgsync status` shows who is here",
    )


def describe(reason: str, conditions: tuple[Condition, ...]) -> str:
    """Who waits for what, in one line: `3 of 5 nodes, missing node-4, node-5`; the reason where no condition says it."""
    lines = []
    for condition in conditions:
        what = "nodes" if condition.name == "quorum" else condition.name
        names = ", ".join(condition.missing[:_NAMES_SHOWN])
        more = len(condition.missing) - _NAMES_SHOWN
        missing = f", missing {names}" + (f" and {more} more" if more > 0 else "") if names else ""
        note = f"; {condition.note}" if condition.note else ""
        lines.append(f"{condition.have} of {condition.need} {what}{missing}{note}")
    return plain("; ".join(lines) or reason)


def _retry_after(answer: ReceivedAnswer, body: ErrorBody | None) -> float | None:
    """The later of the header (in seconds; its date form is not used by us) and the body's word, None for neither."""
    given = []
    header = answer.headers.get("retry-after", "").strip()
    if header.isascii() and header.isdigit():
        given.append(float(header[:9]))
    if body is not None and isinstance(body.retry_after, int | float) and 0 <= body.retry_after < 1e9:
        given.append(float(body.retry_after))
    return max(given, default=None)


def _said(status: int, body: ErrorBody | None) -> str:
    if body is None:
        return f"status {status}"
    return plain(body.message or body.code)


def _retried_hint(status: int, body: ErrorBody | None) -> str:
    if status == 500:
        return "mend what makes the files on the server; `cfgsync status` shows its reason"
    if status == 404 or body is None:
        return NOT_OURS
    if status == 429:
        return "the server limits how often it is asked: wait longer (--wait)"
    return "look at the server's log, then wait longer (--wait)"


def _rebind(identifier: str) -> str:
    return (
        "give the node the secret that it registered with (--state, --secret-file); if another one has taken its place, "
        f"free the name on the server: cfgsync node evict {identifier}"
    )


_PROXY: Final = (
    "nothing was written; what stands between this node and the server may change answers: ask it directly"
)


def _untrusted(
    message: str, hint: str, generation: str | None = None, digest: str | None = None
) -> Untrusted:
    done = "nothing was written; "
    return Untrusted(message, hint if hint.startswith(done) else done + hint, generation, digest)


def _odd(answer: ReceivedAnswer) -> Untrusted:
    where = answer.headers.get("location")
    to = f" to {plain(where, 100)}" if where else ""
    return _untrusted(
        f"the server answers status {answer.status}{to}, which a cfgsync server does not", NOT_OURS
    )


def _is_json(answer: ReceivedAnswer) -> bool:
    return "json" in answer.headers.get("content-type", "json").lower()


def plain(text: str, limit: int = _WORDS_SHOWN) -> str:
    """Words from the network as one line that cannot move a terminal's cursor."""
    line = " ".join(text[: limit + 1].split())
    shown = "".join(c if c.isprintable() else "?" for c in line)
    return shown if len(text) <= limit else shown[:limit] + "…"
