"""When a reader reads next, and how current its content is: no I/O, no sleeping, no clock of its own.

`NEW → SYNCING → CURRENT ⇄ STALE → DEGRADED | NOT_READY`. Only a read that was answered and applied makes CURRENT; a hint,
a timer, an error and a cache never do. Every `now` is a reading of one monotonic clock, in seconds.
"""

from __future__ import annotations

import random as _random
from collections.abc import Callable
from enum import Enum
from typing import Final

INTERVAL: Final = 15.0
SPREAD: Final = 0.1  # a poll comes after INTERVAL ± this share of it
SETTLE: Final = 0.05  # s; the first hint of a burst is followed at once, the rest together, this much later
INTERVALS_TO_LIVE: Final = 4  # content that was not confirmed for so many intervals is DEGRADED
BASE: Final = 0.1  # s; after a failure: full jitter between 0 and BASE doubled with each failure in a row
CAP: Final = 5.0
HELD: Final = 1.0  # s; the least that a read is held


class ReaderState(Enum):
    """How current a reader's content is."""

    NEW = "new"
    """No read has begun."""
    SYNCING = "syncing"
    """The first read is under way."""
    CURRENT = "current"
    """The last read was answered and applied."""
    STALE = "stale"
    """There may be news: a hint came, or a read or its application failed."""
    DEGRADED = "degraded"
    """The content was not confirmed within the time to live, or came from a cache and never was."""
    NOT_READY = "not_ready"
    """There is no content, and none could be read."""


class Freshness:
    """One reader's timing and state: when to read (`due_in`), for how many seconds the read may be held (`hold`), and
    whether it must bring everything (`whole`).

    `holds`: there is content from before, from a cache or a durable view. `held_reads`: the source can hold a read until
    there is news; then the next one follows at once. `ttl` is in seconds (None: four intervals). `random` draws from
    [0, 1).
    """

    def __init__(
        self,
        *,
        interval: float = INTERVAL,
        ttl: float | None = None,
        holds: bool = False,
        held_reads: bool = False,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.why = ""  # why this is not CURRENT, in words
        self.whole = not holds
        self.hold = 0.0
        self.holds = holds
        self._interval = interval
        self._ttl = INTERVALS_TO_LIVE * interval if ttl is None else ttl
        self._held_reads = held_reads
        self._random = random
        self._reading = False
        self._dirty = False  # read again after the read that is under way
        self._began_at: float | None = None  # the last read
        self._confirmed_at: float | None = None  # when the read that confirmed what is held began
        self._ended = False  # a read, at least once
        self._confirmations = 0
        self._failures = 0  # in a row
        self._read_at: float | None = None
        self._poll_at = float("-inf")  # the first read is due at once

    def state(self, now: float) -> ReaderState:
        """The reader's state at this time."""
        if not self._ended:
            return ReaderState.NEW if self._began_at is None else ReaderState.SYNCING
        if self._confirmed_at is not None and now - self._confirmed_at <= self._ttl:
            return ReaderState.STALE if self.why else ReaderState.CURRENT
        return ReaderState.DEGRADED if self.holds else ReaderState.NOT_READY

    def due_in(self, now: float) -> float:
        """Seconds until the next read; 0 when it is due."""
        at = self._poll_at if self._read_at is None else min(self._read_at, self._poll_at)
        return max(at - now, 0.0)

    def hinted(self, now: float, why: str = "a hint came") -> None:
        """Read sooner: a hint came, or a connection is back that may have missed some."""
        self.why = self.why or why
        if self._reading:
            self._dirty = True
        elif self._read_at is None:
            self._read_at = now if self._began_at is None else max(now, self._began_at + SETTLE)

    def began(self, now: float) -> None:
        """A read begins, with `whole` and `hold` as they were."""
        self._began_at, self._read_at, self._dirty, self._reading = now, None, False, True

    def confirmed(self, now: float, changed: bool = False) -> None:
        """The read was applied (`changed`), or brought nothing new."""
        began, asked_to_hold = self._end(), self.hold
        self.holds, self.whole, self.why, self._failures = True, False, "", 0
        self._confirmed_at = began
        first = self._confirmations == 0
        self._confirmations += 1
        if not self._held_reads:
            self._poll_at = began + self._pause(first)
        elif first:
            # holds are whole seconds on the wire, at least one: this part of one spreads nodes that started together
            self._poll_at = now + self._random() * min(HELD, self._interval)
            self.hold = min(HELD + self._pause(first), max(HELD, self._interval * (1 + SPREAD)))
        else:
            was_held = changed or not asked_to_hold or now - began >= HELD * (1 - SPREAD)
            self._poll_at = max(now, began + SETTLE) if was_held else began + self._pause()
            self.hold = max(HELD, self._pause())
        self._again_if_dirty(now, began)

    def must_read_again(self, now: float, why: str, *, whole: bool) -> None:
        """What was read does not follow on the content. The second time in a row counts as a failure."""
        if self._failures:
            self.failed(now, why)
        else:
            self._end()
            self.why, self.hold, self._failures = why, 0.0, 1
            self._read_at = now
        self.whole = self.whole or whole

    def refused(self, now: float, why: str) -> None:
        """What was read must not be applied. The next read comes after an interval and brings everything."""
        began = self._end()
        self.whole, self.why, self.hold = True, why, 0.0
        self._poll_at = began + self._pause()
        self._again_if_dirty(now, began)

    def failed(self, now: float, why: str, retry_after: float | None = None) -> None:
        """The read or its application failed; the content stays."""
        began = self._end()
        self.why, self.hold = why, 0.0
        if retry_after is None:
            wait = self._random() * min(CAP, self._interval, BASE * 2.0 ** min(self._failures, 16))
        else:
            wait = retry_after * (1 + self._random() / 4)
        self._failures += 1
        self._poll_at = max(now + wait, began + SETTLE)
        self._again_if_dirty(now, began)

    def _end(self) -> float:
        assert self._began_at is not None
        self._reading, self._ended = False, True
        return self._began_at

    def _again_if_dirty(self, now: float, began: float) -> None:
        if self._dirty:
            self._read_at = max(now, began + SETTLE)
            self.why = self.why or "a hint came"

    def _pause(self, first: bool = False) -> float:
        """An interval ± 10 %; the first is any part of one, so that readers that start together spread."""
        share = self._random()
        return self._interval * (share if first else 1 - SPREAD + 2 * SPREAD * share)
