"""What `/status` answers: the state of the fleet and of each node."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from cfgsync_core import NEVER, CfgsyncError, Condition, FleetStatus, NodeStatus
from cfgsync_core.text import counted, plain
from cfgsync_core.wire import (
    MAX_NAMES,
    MAX_REASON,
    MissingNode,
    NodeBehind,
    NodeDrift,
    fleet_state,
    node_state,
)

from ..answers import explain
from ..answers.node_answer import NodeAnswers
from ..generations.delivery import Delivery
from ..generations.publisher import Publisher
from ..generations.replacements import Replacements
from ..nodes.acknowledgements import Acknowledgements
from ..nodes.last_seen import LastSeen
from ..nodes.membership import Membership
from ..nodes.promises import Promises
from ..nodes.registry import Registry
from ..rollout.turns import Turns
from ..runs.runner import Runner
from .contents import summarize
from .convergence import Convergence, FleetProgress
from .rollout_progress import RolloutProgress


class StatusReader:
    """The status of one server's fleet. `remembered` is the revision of the registrations when this server started: a node
    that it has not seen may have been seen before."""

    def __init__(
        self,
        registry: Registry,
        publisher: Publisher,
        replacements: Replacements,
        runs: Runner,
        answers: NodeAnswers,
        acknowledgements: Acknowledgements,
        promises: Promises,
        seen: LastSeen,
        membership: Membership,
        delivery: Delivery | None,
        turns: Turns,
    ) -> None:
        self._registry = registry
        self._publisher = publisher
        self._replacements = replacements
        self._runs = runs
        self._answers = answers
        self._acknowledgements = acknowledgements
        self._promises = promises
        self._seen = seen
        self._membership = membership
        self._delivery = delivery
        self._convergence = Convergence(registry, publisher, acknowledgements, seen, runs.held_back)
        self._rollout = RolloutProgress(turns, publisher, acknowledgements)
        self.remembered = 0

    def fleet(self, limit: int, after: str) -> FleetStatus:
        """See `StatusSource`. What needs every node is counted once for each change."""
        runs, registered, current = self._runs, len(self._registry), self._publisher.current
        why = explain.fleet(runs, registered, self._when_seen)
        progress = self._progress()
        missing = self._missing(why.conditions)
        absent = sum(one.identifier not in self._registry for one in missing)
        return FleetStatus(
            generation=None if current is None else current.text,
            state=fleet_state(
                registered,
                is_covered=progress.is_covered,
                has_failed=not runs.is_frozen
                and runs.verdict is not None
                and isinstance(runs.verdict.outcome, CfgsyncError),
                behind=progress.behind,
            ),
            revision=self._registry.version.revision,
            registered=registered,
            waiting=len(self._answers.held),
            pending=why.is_pending,
            held_back=why.is_held_back or msgspec.UNSET,
            reason=why.sentence
            or explain.for_nobody(current, self._registry.entries)
            or ("" if self._delivery is None else plain(self._delivery.failure)),
            conditions=why.conditions,
            nodes=tuple(self.nodes(limit, after)),
            counts={**progress.counts, "not_registered": absent},
            applied=progress.counts["applied"],
            behind=tuple(
                NodeBehind(node.identifier, node.reason) for node, _ in map(self._node, progress.names)
            ),
            behind_count=progress.behind,
            converged=registered > 0 and progress.is_covered and not progress.behind,
            missing=missing,
            drifted=tuple(
                NodeDrift(name, self._acknowledgements.of(name).drifted) for name in progress.drifted_names
            )
            or msgspec.UNSET,
            drifted_count=progress.drifted or msgspec.UNSET,
            rollout=self._rollout.status() or msgspec.UNSET,
        )

    def nodes(self, limit: int, after: str) -> Sequence[NodeStatus]:
        """See `StatusSource`."""
        names = self._registry.identifiers()
        start = bisect_right(names, after)
        return [self._node(name)[0] for name in names[start : start + max(limit, 0)]]

    def was_served(self) -> None:
        """A node was sent another generation than last time."""
        self._convergence.served += 1

    def _progress(self) -> FleetProgress:
        late = node_state(explain.decided(self._answers.uncovered(), self._runs))
        return self._convergence.progress(self._runs.source, late)

    def node(self, identifier: str) -> NodeStatus:
        """See `StatusSource`."""
        node, conditions = self._node(identifier)
        current = self._publisher.current
        replaced = current is not None and identifier in current.replaced
        made = None if current is None else current.source.replacements
        is_newest = (made or NEVER) >= (self._runs.source.replacements or NEVER)
        note = explain.replaced(identifier in self._replacements, replaced, is_newest, self._runs)
        if not note and node.state == "no_files" and current is not None:
            note = explain.misspelt(identifier, current, self._registry.entries)
        if current is not None and current.source.documents is not None:
            words = f"generation {current.number} from {summarize(current).made_from}"
            note = f"{note}; {words}" if note else words
        reason = f"{node.reason}; {note}" if note else node.reason
        missing = self._missing(conditions)
        return msgspec.structs.replace(node, reason=reason, conditions=conditions, missing=missing)

    def _node(self, identifier: str) -> tuple[NodeStatus, tuple[Condition, ...]]:
        known = self._seen.of(identifier)
        seen, served = (None, None) if known is None else (known.at, known.served)
        acknowledged = self._acknowledgements.of(identifier)
        applied = self._convergence.applied(identifier)
        answer = self._answers.now(identifier)
        why = explain.node(identifier, self._runs, answer, served, acknowledged, applied, self._when_seen)
        sentence = why.sentence
        if why.state in ("ready", "served") and (waits := self._rollout.why_waits(identifier)):
            before = "" if applied is None else f"; generation {applied.rpartition('.')[2]} is applied"
            sentence = f"{waits}{before}"
        left = self._membership.left.get(identifier)
        if left is not None and why.state == "not_registered":
            when = self._when_seen(identifier)
            if left.why == "evicted":
                sentence += f": evicted {self._seen.ago(left.at)}, {when}"
            else:
                sentence += f": {when}, and --ttl is {self._membership.ttl:g} s"
            seen = left.seen
        revision = self._registry.revision_of(identifier)
        if seen is None and revision is not None and revision <= self.remembered:
            sentence += ", not heard of since the restart"
        keepalive = None if revision is None else self._promises.get(identifier)
        is_held = identifier in self._answers.held
        silent = 0 if seen is None or is_held else int(self._seen.clock() - seen)
        overdue = silent if keepalive is not None and silent > keepalive else 0
        if overdue:
            sentence += f"; {self._when_seen(identifier)}, promised {keepalive} s"
        if acknowledged.drifted:
            sentence += f"; changed on its disk: {plain(', '.join(acknowledged.drifted), 200)}"
        superseded = self._answers.held.superseded.get(identifier, 0)
        if superseded:
            sentence += f"; {counted(superseded, 'held request')} superseded by a newer one: do two processes use this name?"
        if self._registry.tells_loopback(identifier):
            sentence += "; it has a loopback address, which nodes on other machines cannot reach"
        node = NodeStatus(
            identifier=identifier,
            registered=revision is not None,
            keepalive=keepalive,
            waiting=is_held,
            served=served,
            applied=applied,
            last_failure=None
            if acknowledged.failure is None
            else plain(acknowledged.failure.sentence, MAX_REASON + 100),
            last_seen=None if seen is None else self._seen.as_rfc3339(seen),
            reason=sentence,
            state=why.state,
            because=why.because,
            superseded=superseded or msgspec.UNSET,
            drifted=acknowledged.drifted or msgspec.UNSET,
            overdue=overdue or msgspec.UNSET,
        )
        return node, why.conditions

    def _missing(self, conditions: Sequence[Condition]) -> tuple[MissingNode, ...]:
        names = dict.fromkeys(name for condition in conditions for name in condition.missing)
        found = ((name, self._last_seen(name)) for name in list(names)[:MAX_NAMES])
        return tuple(
            MissingNode(name, None if at is None else self._seen.as_rfc3339(at)) for name, at in found
        )

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
        return "not seen since this server started" if self.remembered else "never seen"
