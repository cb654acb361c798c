"""Held requests: one per node, the newer wins, each answered by the run that settles it and not by polling.

A future per request, one timer for all that end in the same twentieth of a second, one pass over all of them when a run
has finished.
"""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import Callable, Iterator
from typing import TypeAlias

from cfgsync_core import CfgsyncError, NotReady, Resolution

SUPERSEDED_RETRY = 5.0
TICK = 0.05
"""Seconds. Waits end at multiples of it, many together: a large fleet that has nothing to do wakes its server 20 times a
second, and not hundreds of times."""
EARLY = 0.05
"""A wait ends up to this share of it early, where fewer others end: nodes that came together do not come back together.
(`Prefer: wait` is an upper bound, RFC 7240.) A wait below a second ends when it ends."""

NodeAnswer: TypeAlias = Resolution | CfgsyncError


class HeldRequest:
    """One held request. `known` is the digest the node has; `asked` the registrations' revision when it came; `wait`
    its `Prefer` seconds; `deadline` and `last` are loop times: the end of that wait, and the end of all waiting."""

    __slots__ = ("asked", "deadline", "due", "future", "identifier", "known", "last", "wait")

    def __init__(
        self,
        identifier: str,
        known: str | None,
        asked: int,
        wait: float,
        least_wait: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.identifier = identifier
        self.known = known
        self.asked = asked
        self.wait = wait
        self.deadline = now + wait
        self.last = now + max(wait, least_wait)
        self.future: asyncio.Future[NodeAnswer] = loop.create_future()
        self.due = 0.0
        """When it is looked at next, as `HeldRequests` arranged it."""


class HeldRequests:
    """Every held request of one source. `settle(waiter)` returns its answer when it has one now, None to hold on."""

    def __init__(
        self,
        settle: Callable[[HeldRequest], NodeAnswer | None],
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._settle = settle
        self._random = random
        self._held: dict[str, HeldRequest] = {}
        self._due: dict[float, tuple[asyncio.TimerHandle, dict[HeldRequest, None]]] = {}
        self.superseded: dict[str, int] = {}
        """How often a node's held request was superseded by a newer one of the same name."""

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    async def hold(self, waiter: HeldRequest) -> NodeAnswer:
        """Hold until the request is settled. Cancelling (the node has gone) forgets it."""
        older = self._held.get(waiter.identifier)
        if older is not None:
            self.superseded[waiter.identifier] = self.superseded.get(waiter.identifier, 0) + 1
            self._answer(
                older,
                NotReady("superseded by a newer request of the same node", retry_after=SUPERSEDED_RETRY),
            )
        self._held[waiter.identifier] = waiter
        if waiter.wait >= 1.0:
            end = self._quiet_tick(waiter)
            waiter.last = end if waiter.last == waiter.deadline else waiter.last
            waiter.deadline = end
        self._arm(waiter)
        try:
            return await waiter.future
        finally:
            self._forget(waiter)

    def settle(self, identifier: str) -> None:
        """Something is new for this node: answer its request if that settles it."""
        waiter = self._held.get(identifier)
        if waiter is not None and not waiter.future.done() and (answer := self._settle(waiter)) is not None:
            self._answer(waiter, answer)

    def settle_all(self) -> None:
        """A run has finished: answer the requests that it settles."""
        for waiter in list(self._held.values()):
            if not waiter.future.done() and (answer := self._settle(waiter)) is not None:
                self._answer(waiter, answer)

    def release(self, answer: NodeAnswer) -> None:
        """Answer every request the same: the server drains."""
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
        """The better one of two ticks at the end of this wait: of two choices by chance, the fullest is hardly fuller
        than the rest."""
        last = int(waiter.deadline / TICK)
        ticks = int(waiter.wait * EARLY / TICK)
        one, other = ((last - int(self._random() * ticks)) * TICK for _ in range(2))
        return min(one, other, key=self._ending_at)

    def _ending_at(self, at: float) -> int:
        due = self._due.get(at)
        return 0 if due is None else len(due[1])

    def _time_is_over(self, at: float) -> None:
        _, waiters = self._due.pop(at)
        for waiter in waiters:
            waiter.due = 0.0
            if waiter.future.done():
                continue
            answer = self._settle(waiter)
            if answer is None:
                self._arm(waiter)
            else:
                self._answer(waiter, answer)

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
