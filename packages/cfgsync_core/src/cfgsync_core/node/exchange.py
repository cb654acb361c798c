"""What a node asks next, and when: the whole retry policy, with no I/O, no sleeping and no clock of its own.

A carrier (http.client in `cfgsync fetch`, aiohttp in `CfgsyncClient`) does what `next` says and reports it with
`answered` or `lost`. Rules: `node.md`, "Commands". The shape is that of httpcore and python-tuf.
"""

from __future__ import annotations

import random as _random
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

from cfgsync_artifacts import CfgsyncError

from ..store.contract import Version
from ..wire.acknowledgement import Acknowledgement, encode_acknowledgement
from ..wire.headers import ACCEPT, ACCEPT_EXTENDED, VERSION
from ..wire.protocol import encode_registration
from ..wire.registration import NodeRegistration
from .answers import Again, ReceivedAnswer, Registered, RequestContext, read
from .outcomes import NotReadyInTime, Outcome, Unreachable

HOLD: Final = 20.0  # s; below the 30 s at which the server, and many a proxy, ends a request that is silent
BASE: Final = 0.1  # s; full jitter: a pause is drawn between 0 and BASE doubled with each failure in a row
CAP: Final = 5.0
CAP_AT_FIRST: Final = 1.0  # for a server that is just starting: refused for less than FIRST
FIRST: Final = 10.0
LAST_TRY: Final = 0.25  # s before the end: no pause is longer, so that the last question still has time
PATIENCE: Final = 10.0  # s for an answer to begin, beyond what the server was asked to hold it
CONNECT_WITHIN: Final = 5.0  # s for one connection: a packet that vanished is asked again, not waited for
TELL_WITHIN: Final = 1.0  # s for an acknowledgement
ONCE: Final = 5.0  # s for all when nothing is to be waited for


class Request(msgspec.Struct, frozen=True):
    """One POST. The answer must begin within `begin_within` seconds and be whole within `end_within`."""

    path: Literal["/register", "/node", "/ack"]
    headers: dict[str, str]
    body: bytes
    begin_within: float
    end_within: float


class Lost(CfgsyncError):
    """A carrier's request came to nothing: no connection, no answer in time, or half of one."""


class Send(msgspec.Struct, frozen=True):
    """Send this, then call `answered` or `lost`."""

    request: Request


class Pause(msgspec.Struct, frozen=True):
    """Wait so many seconds, then call `next` again."""

    seconds: float


class Done(msgspec.Struct, frozen=True):
    """It is over."""

    outcome: Outcome


Step: TypeAlias = Send | Pause | Done


def is_final(status: int) -> bool:
    """Is this answer to an acknowledgement the last word, so that it is not sent again?"""
    return status < 500 and status not in (408, 425, 429)


def telling(acknowledgement: Acknowledgement, secret: str | None, within: float = TELL_WITHIN) -> Request:
    """The request that tells a server what became of a generation. No answer to it changes anything for the node, which
    waits `within` seconds for one: hardly at boot, when a command is to be started."""
    headers = {"Content-Type": "application/json"}
    if secret is not None:
        headers["Authorization"] = f"Bearer {secret}"
    body = encode_acknowledgement(acknowledgement)
    return Request("/ack", headers, body, within, within)


class Exchange:
    """One node's way from its registration to its files.

    `wait` is in how many seconds it must be over (0: every question is asked once), `now` the time at which it begins,
    on the clock whose readings `next`, `answered` and `lost` are given. `seen` is the newest generation that the node
    was ever answered from, `seen_digest` what it was given then; an older answer, and another one of the same number,
    is `Untrusted`. With `known`, the digest of the files that are in place,
    the answer may be `Current`, and the server holds the question until they change. `hold` is how long one question
    may be held. `random` draws from [0, 1).
    """

    def __init__(
        self,
        registration: NodeRegistration,
        *,
        now: float,
        wait: float,
        secret: str | None = None,
        seen: Version | None = None,
        seen_digest: str | None = None,
        known: str | None = None,
        hold: float = HOLD,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.waiting = ""  # why there are no files yet, in words; changes with the answers
        self.registered = False  # a server has taken the registration, at least once
        self._registration = registration
        self._body = encode_registration(registration)
        self._secret = secret
        self._seen = seen
        self._seen_digest = seen_digest
        self._known = known
        self._hold = hold
        self._random = random
        self._wait = wait
        self._deadline = now + (wait if wait > 0 else ONCE)
        self._path: Literal["/register", "/node"] = "/register"
        self._version: str | None = None
        self._asked_at = now
        self._resume_at = now
        self._outcome: Outcome | None = None
        self._last: Again | str = "nothing was asked"  # how the last try failed; words for a lost connection
        self._failures = 0  # in a row, of one kind
        self._lost_since: float | None = None

    @property
    def identifier(self) -> str:
        return self._registration.identifier

    def next(self, now: float) -> Step:
        """What to do now."""
        if self._outcome is not None:
            return Done(self._outcome)
        if now < self._resume_at:
            return Pause(self._resume_at - now)
        if now >= self._deadline:
            return Done(self._over())
        self._asked_at = now
        return Send(self._request(self._deadline - now))

    def answered(self, now: float, answer: ReceivedAnswer) -> None:
        """The request that `next` gave was answered."""
        question = RequestContext(
            self._path,
            self.identifier,
            self._known if self._path == "/node" else None,
            self._seen,
            self._seen_digest,
        )
        meaning = read(answer, question)
        if isinstance(meaning, Registered):
            self.registered = True
            self._path, self._version, self._lost_since = "/node", meaning.version, None
        elif isinstance(meaning, Again):
            self._again(now, meaning)
        else:
            self._outcome = meaning

    def lost(self, now: float, why: str) -> None:
        """The request that `next` gave came to nothing: `why` says how (refused, timed out, cut off)."""
        # Registering is idempotent, and an original server that restarted has forgotten everyone.
        self._path = "/register"
        if now >= self._deadline and isinstance(self._last, Again):
            return  # cut off by our own deadline: what the server said before that is why we have no files
        if self._was_well():
            self._failures = 0
        if self._lost_since is None:
            self._lost_since = now
        self._last = self.waiting = why
        self._pause(now, None, CAP_AT_FIRST if now - self._lost_since < FIRST else CAP)

    # ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _again(self, now: float, meaning: Again) -> None:
        if meaning.not_ready is not None and not self._was_well():
            self._failures = 0  # it is well again: from here on only coming too early counts
        if meaning.register:
            self._path = "/register"
        self._last, self.waiting, self._lost_since = meaning, meaning.why, None
        if meaning.retry_after == 0 and now - self._asked_at >= 1:
            self._failures = 0
            self._resume_at = now  # it was held to its end: ask again at once
        else:
            self._pause(now, meaning.retry_after or None, CAP)

    def _was_well(self) -> bool:
        """The try before was answered as a well server without files does. Other failures in a row count as one row,
        so that a server that goes to and fro between refusing and failing is not asked as if each were the first."""
        return isinstance(self._last, Again) and self._last.not_ready is not None

    def _pause(self, now: float, asked: float | None, cap: float) -> None:
        """`asked` seconds as the server asked for (and up to a quarter more, so that a fleet does not come back as one),
        else full jitter; never so long that no last question fits in."""
        if asked is not None:
            seconds = asked * (1 + self._random() / 4)
        else:
            seconds = self._random() * min(cap, BASE * 2 ** min(self._failures, 16))
        self._failures += 1
        left = self._deadline - now
        if self._wait <= 0 or left <= LAST_TRY:
            self._outcome = self._over()
        else:
            self._resume_at = now + min(seconds, left - LAST_TRY)

    def _request(self, left: float) -> Request:
        headers = {"Content-Type": "application/json"}
        if self._secret is not None:
            headers["Authorization"] = f"Bearer {self._secret}"
        held = 0
        if self._path == "/node":
            headers[ACCEPT] = ACCEPT_EXTENDED
            if self._version is not None:
                headers[VERSION] = self._version
            if self._known is not None:
                headers["If-None-Match"] = f'"{self._known}"'
            held = int(min(self._hold, left - LAST_TRY)) if self._wait > 0 else 0
            if held >= 1:
                headers["Prefer"] = f"wait={held}"
        return Request(self._path, headers, self._body, min(left, max(held, 0) + PATIENCE), left)

    def _over(self) -> Outcome:
        last, time = self._last, f"after {round(self._wait, 1):g} s"
        if isinstance(last, str):
            return Unreachable(
                f"no answer from the server {time}: {last}",
                "is the server running, and is its URL (--server) right?",
            )
        if last.failed is not None:
            return NotReadyInTime(last.failed, f"no files {time}: {last.failed}", last.hint)
        if last.not_ready is not None:
            return NotReadyInTime(last.why, f"not ready {time}: {last.why}", last.hint)
        return Unreachable(f"no files from the server {time}: {last.why}", last.hint)
