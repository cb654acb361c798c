"""Held questions: one per node, the newer wins, each answered by the run that settles it and not by polling.

A future per question, a timer per question, one pass over all of them when a run has finished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeAlias

from cfgsync_core import CfgsyncError, NotReady, Resolution

SUPERSEDED_RETRY = 5.0

Answer: TypeAlias = Resolution | CfgsyncError


class Waiter:
    """One held question. `known` is the digest the node has; `asked` the registrations' revision when it asked; `wait`
    its `Prefer` seconds; `deadline` and `last` are loop times: the end of that wait, and the end of all waiting."""

    __slots__ = ("asked", "deadline", "future", "identifier", "known", "last", "timer", "wait")

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
        self.future: asyncio.Future[Answer] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None


class Waiting:
    """Every held question of one source. `settle(waiter)` returns its answer when it has one now, None to hold on."""

    def __init__(self, settle: Callable[[Waiter], Answer | None]) -> None:
        self._settle = settle
        self._held: dict[str, Waiter] = {}
        self.superseded: dict[str, int] = {}
        """How often a node's held question was superseded by a newer one of the same name."""

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    async def hold(self, waiter: Waiter) -> Answer:
        """Hold until the question is settled. Cancelling (the node has gone) forgets it."""
        older = self._held.get(waiter.identifier)
        if older is not None:
            self.superseded[waiter.identifier] = self.superseded.get(waiter.identifier, 0) + 1
            self._answer(
                older,
                NotReady("superseded by a newer request of the same node", retry_after=SUPERSEDED_RETRY),
            )
        self._held[waiter.identifier] = waiter
        self._arm(waiter)
        try:
            return await waiter.future
        finally:
            self._forget(waiter)

    def settle(self, identifier: str) -> None:
        """Something is new for this node: answer its question if that settles it."""
        waiter = self._held.get(identifier)
        if waiter is not None and not waiter.future.done() and (answer := self._settle(waiter)) is not None:
            self._answer(waiter, answer)

    def settle_all(self) -> None:
        """A run has finished: answer whoever it settles."""
        for waiter in list(self._held.values()):
            if not waiter.future.done() and (answer := self._settle(waiter)) is not None:
                self._answer(waiter, answer)

    def release(self, answer: Answer) -> None:
        """Answer everybody the same: the server drains."""
        for waiter in list(self._held.values()):
            self._answer(waiter, answer)

    def _arm(self, waiter: Waiter) -> None:
        loop = waiter.future.get_loop()
        at = waiter.deadline if loop.time() < waiter.deadline else waiter.last
        waiter.timer = loop.call_at(at, self._time_is_over, waiter)

    def _time_is_over(self, waiter: Waiter) -> None:
        if waiter.future.done():
            return
        answer = self._settle(waiter)
        if answer is None:
            self._arm(waiter)
        else:
            self._answer(waiter, answer)

    def _answer(self, waiter: Waiter, answer: Answer) -> None:
        if not waiter.future.done():
            waiter.future.set_result(answer)
        self._forget(waiter)

    def _forget(self, waiter: Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
            waiter.timer = None
        if self._held.get(waiter.identifier) is waiter:
            del self._held[waiter.identifier]
