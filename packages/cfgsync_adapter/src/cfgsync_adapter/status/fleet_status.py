"""What `/status` answers: the state of the fleet and of each node, put together from the parts of a source."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

import msgspec

from cfgsync_core import CfgsyncError, Condition, FleetStatus, NodeStatus, Resolution
from cfgsync_core.text import plain
from cfgsync_core.wire import MissingNode, NodeBehind, fleet_state

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
"""An identifier → what that node would be answered now, None when the newest run decides that."""


class StatusReader:
    """The status of one server's fleet. `remembers`: there were registrations before this server started, so that it
    cannot say "never" of a node that it has not seen."""

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

    def fleet(
        self, runs: Runner, delivery: Delivery | None, limit: int, after: str, answer_now: AnswerNow
    ) -> FleetStatus:
        """The fleet's state, counts and reason, with the first `limit` nodes after `after`.

        What takes a look at every node is counted once for each change.
        """
        registered, current = len(self._registry), self._generations.current
        why = explain.fleet(runs, registered, self._when_seen)
        progress = self._convergence.progress(runs.source)
        names = self._registry.identifiers()
        start = bisect_right(names, after)

        def nodes(identifiers: Iterable[str]) -> Iterable[NodeStatus]:
            return (self._node(name, runs, answer_now(name))[0] for name in identifiers)

        return FleetStatus(
            generation=None if current is None else current.text,
            state=fleet_state(
                registered,
                is_covered=progress.is_covered,
                has_failed=runs.verdict is not None and isinstance(runs.verdict.outcome, CfgsyncError),
                behind=progress.behind,
            ),
            revision=self._registry.version.revision,
            registered=registered,
            waiting=len(self._waiting),
            pending=why.is_pending,
            reason=why.sentence or ("" if delivery is None else plain(delivery.failure)),
            conditions=why.conditions,
            nodes=tuple(nodes(names[start : start + max(limit, 0)])),
            applied=progress.applied,
            behind=tuple(NodeBehind(node.identifier, node.reason) for node in nodes(progress.names)),
            behind_count=progress.behind,
            converged=registered > 0 and progress.is_covered and not progress.behind,
            missing=self._missing(why.conditions),
        )

    def behind(self, runs: Runner) -> int:
        """How many nodes have not acknowledged what the current generation gives them, or are not in it yet."""
        return self._convergence.progress(runs.source).behind

    def node(self, identifier: str, runs: Runner, answer: Resolution | None) -> NodeStatus:
        """One node, with the conditions that it waits for. `answer`: see `AnswerNow`."""
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
        superseded = self._waiting.superseded.get(identifier, 0)
        if superseded:
            sentence += (
                f"; {superseded} held requests were superseded by newer ones: do two processes use this name?"
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
            superseded=superseded or msgspec.UNSET,
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
