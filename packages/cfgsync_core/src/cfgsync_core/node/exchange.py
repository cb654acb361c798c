"""What a node sends next, and when: the whole retry policy, without I/O, without sleeping and without a clock of its own.

A transport (http.client in `cfgsync fetch`, aiohttp in `CfgsyncClient`) does what `next` says and reports the result with
`answered` or `lost`.
"""

from __future__ import annotations

import random as _random
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

from ..store.contract import Version
from ..wire.registration import NodeRegistration
from .answers import Registered, Retry, read
from .hold import NOTICED, Hold
from .outcomes import NotReadyInTime, Outcome, Unreachable
from .received_answer import ReceivedAnswer, RequestContext
from .requests import HOLD, Request, node_request, register_request
from .trust.signature import Verify

BASE: Final = 0.1  # s; full jitter: a pause is drawn between 0 and BASE doubled with each failure in a row
CAP: Final = 5.0
CAP_AT_FIRST: Final = 1.0  # for a server that is just starting: refused for less than FIRST
FIRST: Final = 10.0
CUT_WITHIN: Final = 2.0  # s after its hold by which an answer must have begun, or nobody is there
LAST_TRY: Final = 0.25  # s before the end: no pause is longer, so that the last request still has time
ONCE: Final = 5.0  # s in all when `wait` is 0
ELSEWHERE: Final = "the watcher of this node registers it"


class Send(msgspec.Struct, frozen=True):
    """Send this, then call `answered` or `lost`."""

    request: Request


class Pause(msgspec.Struct, frozen=True):
    """Wait so many seconds, then call `next` again."""

    seconds: float


class Done(msgspec.Struct, frozen=True):
    """The exchange has ended."""

    outcome: Outcome


Step: TypeAlias = Send | Pause | Done


class Exchange:
    """One node's way from its registration to its files.

    It begins at `now` and ends within `wait` seconds (0: every request is sent once). `seen` is the newest generation
    that the node ever got, `seen_digest` the digest of its files then; an older answer, and other files under the same
    number, are `Untrusted`. With `known`, the digest of the files in place, the answer may be `Current`, and the server
    holds the request until they change, at most `hold` seconds. `keepalive` promises that the node will be heard of within
    so many seconds, also after this exchange. `join_token` is sent with each registration. Without `registers`, another
    process of this node does that. `verify` checks that the files are signed. `random` draws from [0, 1).
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
        keepalive: int | None = None,
        join_token: str | None = None,
        registers: bool = True,
        verify: Verify | None = None,
        turn: str | None = None,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.waiting = ""  # why there are no files yet; changes with the answers
        self.registered = False  # a server has taken the registration, at least once
        self.registration = registration
        self._secret = secret
        self._seen = seen
        self._seen_digest = seen_digest
        self._known = known
        self._hold = Hold(hold)
        self._keepalive = keepalive
        self._join_token = join_token
        self._verify = verify
        self._turn = turn
        self._held = 0.0  # s; for which the request that was sent last may be held
        self._random = random
        self._wait = wait
        self._deadline = now + (wait if wait > 0 else ONCE)
        self._first: Literal["/register", "/node"] = "/register" if registers else "/node"
        self._path = self._first
        self._version: str | None = None
        self._asked_at = now
        self._resume_at = now
        self._outcome: Outcome | None = None
        self._last: Retry | str = "no request was sent"  # how the last try failed; text for a lost connection
        self._hint = ""  # what to do about a server that could not be verified
        self._ours: Retry | None = None  # what cfgsync itself answered last, while it is not lost
        self._failures = 0  # in a row, of one kind
        self._lost_since: float | None = None

    @property
    def identifier(self) -> str:
        return self.registration.identifier

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
        context = RequestContext(
            self._path, self.identifier, self._known, self._seen, self._seen_digest, self._verify
        )
        meaning = read(answer, context)
        if isinstance(meaning, Registered):
            self.registered = True
            self._path, self._version, self._lost_since = "/node", meaning.version, None
        elif isinstance(meaning, Retry) and meaning.foreign:
            self._foreign(now, meaning)
        elif isinstance(meaning, Retry):
            self._hold.lasted()
            self._retry(now, meaning)
        else:
            self._outcome = meaning

    def lost(self, now: float, why: str, hint: str = "") -> None:
        """The request that `next` gave has no answer: `why` says how (refused, timed out, cut off). `hint` is what to do about
        a server that could not be verified."""
        # registering is idempotent, and an original server forgets all nodes when it restarts
        self._path = self._first
        if now >= self._deadline and isinstance(self._last, Retry):
            return  # our own deadline cut it off: the server's last answer says why there are no files
        if self._was_cut(now):
            return
        self._hold.restart()
        self._ours = None
        if self._was_well():
            self._failures = 0
        if self._lost_since is None:
            self._lost_since = now
        self._last, self._hint = why, hint
        self.waiting = f"{why}; retrying" if hint else why
        self._pause(now, None, CAP_AT_FIRST if now - self._lost_since < FIRST else CAP)

    def moved(self, ip: str) -> None:
        """The machine has this address now; the next registration says it."""
        if ip != self.registration.ip:
            self.registration = NodeRegistration(self.identifier, ip, self.registration.payload)
            self._path = self._first

    # ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _foreign(self, now: float, meaning: Retry) -> None:
        """Somebody answered in cfgsync's place."""
        if meaning.register:
            self._path = self._first
        if meaning.register and self._was_cut(now):
            return
        self._last, self.waiting, self._lost_since = meaning, f"{meaning.why}; retrying", None
        self._pause(now, meaning.retry_after or None, CAP)

    def _was_cut(self, now: float) -> bool:
        """True when the last request was being held, and a proxy ended it: what cfgsync said before is still the reason."""
        held, self._held = self._held, 0.0
        if not NOTICED <= now - self._asked_at < held + CUT_WITHIN or (
            self._ours is None and not self.registered
        ):
            return False
        self._hold.was_cut(held)
        self._failures = 0
        self._resume_at = now
        return self._ours is not None

    def _retry(self, now: float, meaning: Retry) -> None:
        if meaning.register and self._first == "/node":
            meaning = msgspec.structs.replace(meaning, why=f"{meaning.why}; {ELSEWHERE}")
        if meaning.not_ready is not None and not self._was_well():
            self._failures = 0  # the server is healthy again: only "not ready" counts from here on
        if meaning.register:
            self._path = self._first
        self._last, self.waiting, self._lost_since = meaning, meaning.why, None
        self._ours = meaning
        if meaning.retry_after == 0 and now - self._asked_at >= NOTICED:
            self._failures = 0
            self._resume_at = now  # the request was held to its end: the next one follows at once
        else:
            self._pause(now, meaning.retry_after or None, CAP)

    def _was_well(self) -> bool:
        """True when a healthy server answered the last try with "not ready". All other failures count together, so that a
        server that alternates between refusing and failing gets longer pauses, too."""
        return isinstance(self._last, Retry) and self._last.not_ready is not None

    def _pause(self, now: float, asked: float | None, cap: float) -> None:
        """Wait the seconds that the server `asked` for and up to a quarter more, to spread a fleet; else with full jitter.
        A last request always fits in."""
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
        self._held = 0.0
        if self._path == "/register":
            return register_request(
                self.registration,
                self._secret,
                left,
                keepalive=self._keepalive,
                join_token=self._join_token,
            )
        hold = min(self._hold.seconds, left - LAST_TRY) if self._wait > 0 else 0.0
        self._held = float(int(max(hold, 0.0)))  # the server takes whole seconds
        return node_request(
            self.registration,
            self._secret,
            left,
            hold=hold,
            version=self._version,
            known=self._known,
            seen=self._seen,
            keepalive=self._keepalive,
            turn=self._turn,
        )

    def _over(self) -> Outcome:
        last, time = self._last, f"after {round(self._wait, 1):g} s"
        if isinstance(last, str) and self._hint:
            return Unreachable(f"the server cannot be verified {time}: {last}", self._hint)
        if isinstance(last, str):
            return Unreachable(
                f"no answer from the server {time}: {last}",
                "is the server running, and is its URL (--server) right?",
            )
        if last.foreign and self._ours is not None and (self._ours.not_ready or self._ours.failed):
            last = self._ours
        if last.failed is not None:
            return NotReadyInTime(f"no files {time}: {last.failed}", last.hint, last.failed)
        if last.not_ready is not None:
            return NotReadyInTime(f"not ready {time}: {last.why}", last.hint, last.why)
        return Unreachable(f"no files from the server {time}: {last.why}", last.hint)
