"""Where the fleet and each node stand: what `/status` says of a source, put together from its parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

import msgspec

from cfgsync_core import Condition, FleetStatus, MissingNode, NodeBehind, NodeStatus, Resolution, plain

from ..answers import explain
from ..answers.held_requests import HeldRequests
from ..generations.delivery import Delivery
from ..generations.publisher import Publisher
from ..nodes.acknowledgements import Acknowledgements
from ..nodes.last_seen import LastSeen
from ..nodes.membership import Membership
from ..nodes.registry import Registry
from ..runs.runner import Runner
from .convergence import Convergence

NAMED = 1_000
"""How many missing nodes are named as data."""

AnswerNow = Callable[[str], Resolution | None]


class StatusReader:
    """What one server says of its nodes."""

    def __init__(
        self,
        registry: Registry,
        generations: Publisher,
        waiting: HeldRequests,
        acknowledgements: Acknowledgements,
        seen: LastSeen,
        membership: Membership,
    ) -> None:
        self._registry = registry
        self._generations = generations
        self._waiting = waiting
        self._acknowledgements = acknowledgements
        self._seen = seen
        self._membership = membership
        self._convergence = Convergence(registry, generations, acknowledgements)
        self.remembers = False
        """Whether there were registrations before this server started: of whom it has not seen, it cannot say never."""

    def fleet(
        self, runs: Runner, delivery: Delivery | None, limit: int, after: str, answer_now: AnswerNow
    ) -> FleetStatus:
        """The fleet's counts and reason, with the first `limit` nodes after `after`.

        What costs more than a look is counted once for each change, and of each node only its sentence is said here.
        """
        reason, conditions = explain.fleet(runs, len(self._registry), self._when_seen)
        if not reason and delivery is not None:
            reason = plain(delivery.failure)
        current = self._generations.current
        converging = self._convergence.fleet(runs.source)
        names = self._registry.identifiers()
        start = bisect_right(names, after)
        return FleetStatus(
            generation=None if current is None else current.text,
            revision=self._registry.version.revision,
            registered=len(self._registry),
            waiting=len(self._waiting),
            reason=reason,
            conditions=conditions,
            nodes=tuple(
                self._node(name, runs, answer_now(name))[0] for name in names[start : start + max(limit, 0)]
            ),
            applied=converging.applied,
            behind=tuple(
                NodeBehind(name, self._node(name, runs, answer_now(name))[0].reason)
                for name in converging.names
            ),
            behind_count=converging.behind,
            converged=converging.converged,
            missing=self._missing(conditions),
        )

    def behind(self, runs: Runner) -> int:
        """How many nodes have not acknowledged what the current generation gives them, or are not in it yet."""
        return self._convergence.fleet(runs.source).behind

    def node(self, identifier: str, runs: Runner, answer: Resolution | None) -> NodeStatus:
        """One node, and all that is known of why; `answer` is what it would be answered now, None while that is still
        to be decided."""
        node, conditions = self._node(identifier, runs, answer)
        return msgspec.structs.replace(node, conditions=conditions, missing=self._missing(conditions))

    def _node(
        self, identifier: str, runs: Runner, answer: Resolution | None
    ) -> tuple[NodeStatus, tuple[Condition, ...]]:
        known = self._seen.of(identifier)
        seen, served = (None, None) if known is None else (known.at, known.served)
        said = self._acknowledgements.of(identifier)
        applied = self._convergence.applied(identifier)
        why = explain.node(identifier, runs, answer, served, said, applied, self._when_seen)
        sentence = why.sentence
        left = self._membership.left.get(identifier)
        if left is not None and why.state == "not_registered":
            sentence += f": {self._departed(identifier)}"
            seen = left.seen
        if times := self._waiting.superseded.get(identifier):
            sentence += (
                f"; {times} held requests were superseded by newer ones: do two processes use this name?"
            )
        node = NodeStatus(
            identifier=identifier,
            registered=self._registry.get(identifier) is not None,
            waiting=identifier in self._waiting,
            served=served,
            applied=applied,
            last_failure=None if said.failure is None else plain(said.failure.sentence, 1_100),
            last_seen=None if seen is None else self._seen.spelled(seen),
            reason=sentence,
            state=why.state,
            because=why.because,
        )
        return node, why.conditions

    def _missing(self, conditions: Sequence[Condition]) -> tuple[MissingNode, ...]:
        names = dict.fromkeys(name for condition in conditions for name in condition.missing[:NAMED])
        found = ((name, self._last_seen(name)) for name in list(names)[:NAMED])
        return tuple(MissingNode(name, None if at is None else self._seen.spelled(at)) for name, at in found)

    def _last_seen(self, identifier: str) -> float | None:
        known = self._seen.of(identifier)
        if known is not None:
            return known.at
        left = self._membership.left.get(identifier)
        return None if left is None else left.seen

    def _when_seen(self, identifier: str) -> str:
        """`never seen`, `last seen 40 s ago`."""
        at = self._last_seen(identifier)
        if at is not None:
            return f"last seen {self._seen.ago(at)}"
        return "not seen since this server started" if self.remembers else "never seen"

    def _departed(self, identifier: str) -> str:
        left = self._membership.left[identifier]
        if left.why == "evicted":
            return f"evicted {self._seen.ago(left.at)}, {self._when_seen(identifier)}"
        return f"{self._when_seen(identifier)}, and --ttl is {self._membership.ttl:g} s"
