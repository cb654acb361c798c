"""What `POST /node` answers, in six cases, and how long a request is held for it.

1. The node is not registered: at once. 2. The current generation covers its registration, or an equal one: its files, or
`Missing`. 3. The generation is frozen and does not cover it: `Missing`. 4. Otherwise the request is held for a run that covers all
earlier registrations. 5. That run failed: its error. 6. It was not ready: its reason, at the end of the wait.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from cfgsync_core import CfgsyncError, Missing, NotReady, Ready, Version
from cfgsync_core.wire import MATERIALIZING, Kept, Turn

from ..generations.generation import Generation
from ..generations.publisher import Publisher
from ..nodes.registry import Registry
from ..rollout.turns import Turns
from ..rollout.words import Asking
from ..runs.runner import Runner
from . import explain
from .held_requests import HeldRequest, HeldRequests, NodeAnswer

LEAST_WAIT = 2.0
"""Seconds that a request is held at least for a run that covers it (case 4)."""


class NodeAnswers:
    """The answers of one server; `held` are the requests that wait for one. A node that names files (case 2) is answered as
    `turns` say."""

    turns: Turns

    def __init__(self, registry: Registry, publisher: Publisher, runs: Runner) -> None:
        self._registry = registry
        self._publisher = publisher
        self._runs = runs
        self.held = HeldRequests(self._settle)

    def now(self, identifier: str) -> Ready | Missing | NotReady | None:
        """Cases 1 to 3; None for case 4."""
        revision = self._registry.revision_of(identifier)
        if revision is None:
            return not_registered(identifier)
        current = self._publisher.current
        if current is not None:
            covered, payload = current.source.registrations, current.nodes.get(identifier)
            is_covered = revision <= covered.revision and (
                covered.epoch == self._registry.version.epoch or self._is_held(covered, payload is not None)
            )
            if is_covered or self._runs.held_back.has(identifier):
                return Missing() if payload is None else Ready(payload, current.text)
        return self.uncovered() and Missing(self._runs.held_back.why(identifier))

    def _is_held(self, covered: Version, is_named: bool) -> bool:
        """Whether the registrations here are those of `covered`, and later ones. After a new epoch, generation and registrations
        are read one after the other: no node of a frozen fleet may be told meanwhile that it gets nothing."""
        held = self._registry.version
        if covered.epoch < held.epoch:
            return covered.revision <= held.revision
        return is_named

    def uncovered(self) -> Missing | None:
        """Case 3, or None for case 4: the same for all nodes that the current generation does not cover."""
        is_refused = self._runs.is_frozen and not self._runs.reverts  # those of a revert wait: case 6
        return Missing() if is_refused else None

    def for_named(
        self, identifier: str, ready: Ready, known: str | None, turn: Turn | None, starts: bool
    ) -> Ready | Kept | None:
        """Case 2 for a node that names the files `known`: what it gets; None when it has what it gets."""
        if known is None:
            return ready
        asking = Asking(identifier, ready.payload.digest, known, turn, starts)
        match self.turns.answer(asking):
            case "files":
                return msgspec.structs.replace(ready, again=True) if known == ready.payload.digest else ready
            case "kept":
                return Kept(ready.generation or "")
        return None

    def asked(
        self,
        identifier: str,
        now: Ready | Missing | None,
        known: str | None,
        turn: Turn | None,
        wait: float,
    ) -> NodeAnswer | HeldRequest:
        """Cases 2 to 6 for a question that has just come, and that is answered `now` if it names no files: the answer, or what
        `held.hold` awaits. `known` is the digest that the node has."""
        is_unchanged = False
        if known is not None and isinstance(now, Ready):
            found = self.for_named(identifier, now, known, turn, wait <= 0)
            if turn is not None:
                asking = Asking(identifier, now.payload.digest, known, turn, wait <= 0)
                self.turns.asked(asking, isinstance(found, Ready))
            is_unchanged = found is None
            if wait <= 0 or isinstance(found, Ready):
                return found or now
        elif now is not None:
            return now
        waiter = HeldRequest(identifier, known, self._registry.version.revision, wait, LEAST_WAIT, turn)
        return (None if is_unchanged else self._settle(waiter)) or waiter

    def asking(self) -> Iterator[Asking]:
        """The held questions of nodes that take turns, that the current generation covers, and that might want a turn: in a boot
        none of thousands does."""
        for identifier, waiter in self.held.with_turn.items():
            answer = self.now(identifier)
            if not isinstance(answer, Ready) or waiter.turn is None:
                continue
            if waiter.known != answer.payload.digest or waiter.turn.mark == "refused":
                yield Asking(identifier, answer.payload.digest, waiter.known, waiter.turn)

    def _settle(self, waiter: HeldRequest) -> NodeAnswer | None:
        """Cases 2 to 6 for a held request; None to hold it longer."""
        now = waiter.future.get_loop().time()
        wait_is_over = now >= waiter.deadline
        answer = self.now(waiter.identifier)
        if isinstance(answer, Ready):
            found = self.for_named(waiter.identifier, answer, waiter.known, waiter.turn, waiter.wait <= 0)
            if isinstance(found, Ready):
                return found
            return (found or answer) if wait_is_over else None
        if answer is not None:
            return answer
        runs = self._runs
        if runs.reverts:
            why, again = runs.held_back.why(waiter.identifier), 0.0 if waiter.wait > 0 else 1.0
            return NotReady(why, retry_after=again) if wait_is_over else None
        verdict = runs.verdict
        covers = (
            verdict is not None
            and verdict.source.claim >= runs.source.claim
            and verdict.source.registrations.revision >= waiter.covering
        )
        if not covers and now < waiter.last:
            return None
        again = 0.0 if waiter.wait > 0 else 1.0
        if verdict is None or isinstance(verdict.outcome, Generation):
            if now < waiter.last:
                return None
            return NotReady(MATERIALIZING if not runs.superseded else explain.SUPERSEDED, retry_after=again)
        if isinstance(verdict.outcome, CfgsyncError):
            return verdict.outcome
        if not wait_is_over:
            return None
        return NotReady(verdict.outcome.reason, verdict.outcome.conditions, retry_after=again)


def not_registered(identifier: str) -> NotReady:
    """Case 1."""
    return NotReady(f"{identifier} is not registered", registered=False)
