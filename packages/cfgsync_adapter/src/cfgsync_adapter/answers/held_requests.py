"""Held requests: one per node, the newer wins. A run that has finished answers all that it settles, in one pass.

Each has a future; all that end in the same twentieth of a second share a timer.
"""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import Callable
from typing import TypeAlias

from cfgsync_core import CfgsyncError, NotReady, Resolution
from cfgsync_core.wire import Kept, Turn

SUPERSEDED_RETRY = 5.0
TICK = 0.05
"""Seconds. Waits end at multiples of it, many together, so that a large idle fleet wakes its server 20 times a second and
not hundreds of times."""
EARLY = 0.05
"""A wait ends early by up to this share of it, when fewer others end, so that nodes that came together do not come back
together. (`Prefer: wait` is an upper bound, RFC 7240.) A wait below a second ends exactly."""

NodeAnswer: TypeAlias = Resolution | Kept | CfgsyncError


class HeldRequest:
    """One held request. `known` is the digest the node has; `covering` the revision of the registrations that a run must
    cover to answer it; `wait` its `Prefer` seconds; `turn` is that of a node that takes turns; `deadline` and `last` are loop times: the end of that wait, and the
    end of all waiting."""

    __slots__ = ("covering", "deadline", "due", "future", "identifier", "known", "last", "turn", "wait")

    def __init__(
        self,
        identifier: str,
        known: str | None,
        covering: int,
        wait: float,
        least_wait: float,
        turn: Turn | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.identifier = identifier
        self.known = known
        self.covering = covering
        self.wait = wait
        self.turn = turn
        self.deadline = now + wait
        self.last = now + max(wait, least_wait)
        self.future: asyncio.Future[NodeAnswer] = loop.create_future()
        self.due = 0.0
        """The key of its timer in `HeldRequests`."""


class HeldRequests:
    """Every held request of one source. `settle(waiter)` returns the answer, None to hold the request longer."""

    def __init__(
        self,
        settle: Callable[[HeldRequest], NodeAnswer | None],
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._settle = settle
        self._random = random
        self._held: dict[str, HeldRequest] = {}
        self._due: dict[float, tuple[asyncio.TimerHandle, dict[HeldRequest, None]]] = {}
        self.with_turn: dict[str, HeldRequest] = {}
        """Those of nodes that take turns, by node."""
        self.superseded: dict[str, int] = {}
        """How often a newer request of the same node ended a held one, by node."""

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._held

    async def hold(self, waiter: HeldRequest) -> NodeAnswer:
        """Hold the request until it is settled. When the node disconnects, the caller cancels this."""
        older = self._held.get(waiter.identifier)
        if older is not None:
            self.superseded[waiter.identifier] = self.superseded.get(waiter.identifier, 0) + 1
            self._answer(
                older,
                NotReady("superseded by a newer request of the same node", retry_after=SUPERSEDED_RETRY),
            )
        self._held[waiter.identifier] = waiter
        if waiter.turn is not None:
            self.with_turn[waiter.identifier] = waiter
        if waiter.wait >= 1.0:
            end = self._quiet_tick(waiter)
            waiter.last = end if waiter.last == waiter.deadline else waiter.last
            waiter.deadline = end
        self._arm(waiter)
        try:
            return await waiter.future
        except BaseException:
            self._forget(waiter)
            raise

    def settle(self, identifier: str) -> None:
        """Answer this node's request if it can be settled now."""
        waiter = self._held.get(identifier)
        if waiter is not None:
            self._is_settled(waiter)

    def settle_all(self) -> None:
        """Answer every request that can be settled now."""
        for waiter in list(self._held.values()):
            self._is_settled(waiter)

    def release(self, answer: NodeAnswer) -> None:
        """Give every request this answer."""
        for waiter in list(self._held.values()):
            self._answer(waiter, answer)

    def _arm(self, waiter: HeldRequest) -> None:
        loop = waiter.future.get_loop()
        at = waiter.due = waiter.deadline if loop.time() < waiter.deadline else waiter.last
        if at in self._due:
            self._due[at][1][waiter] = None
        else:
            self._due[at] = loop.call_at(at, self._time_is_over, at), {waiter: None}

    def _quiet_tick(self, waiter: HeldRequest) -> float:
        """The emptier one of two random ticks at the end of this wait: two choices already spread the load evenly."""
        last = int(waiter.deadline / TICK)
        ticks = int(waiter.wait * EARLY / TICK)
        one = (last - int(self._random() * ticks)) * TICK
        if one not in self._due:
            return one
        other = (last - int(self._random() * ticks)) * TICK
        if other not in self._due:
            return other
        return one if len(self._due[one][1]) <= len(self._due[other][1]) else other

    def _time_is_over(self, at: float) -> None:
        _, waiters = self._due.pop(at)
        for waiter in waiters:
            waiter.due = 0.0
            if not self._is_settled(waiter):
                self._arm(waiter)

    def _is_settled(self, waiter: HeldRequest) -> bool:
        """True when it has an answer, which it gets now if it can."""
        if waiter.future.done():
            return True
        answer = self._settle(waiter)
        if answer is not None:
            self._answer(waiter, answer)
        return answer is not None

    def _answer(self, waiter: HeldRequest, answer: NodeAnswer) -> None:
        if not waiter.future.done():
            waiter.future.set_result(answer)
        self._forget(waiter)

    def _forget(self, waiter: HeldRequest) -> None:
        if waiter.due in self._due:
            timer, waiters = self._due[waiter.due]
            waiters.pop(waiter, None)
            if not waiters:
                timer.cancel()
                del self._due[waiter.due]
        if self._held.get(waiter.identifier) is waiter:
            del self._held[waiter.identifier]
        if self.with_turn.get(waiter.identifier) is waiter:
            del self.with_turn[waiter.identifier]
