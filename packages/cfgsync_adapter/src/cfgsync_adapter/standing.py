"""Where the fleet and each node stand: what `/status` says of a source, put together from its parts."""

from __future__ import annotations

from datetime import UTC, datetime

from cfgsync_core import FleetStatus, NodeStatus, Resolution

from . import explain
from .delivering import Delivery
from .publishing import Publisher
from .registry import Registry
from .runs import Runs
from .waiting import Waiting


class Standing:
    """What one server knows about its nodes besides their registrations: who was seen when (seconds since 1970), and
    which generation each was answered from."""

    def __init__(self, registry: Registry, publisher: Publisher, waiting: Waiting) -> None:
        self._registry = registry
        self._publisher = publisher
        self._waiting = waiting
        self.seen: dict[str, float] = {}
        self.served: dict[str, str] = {}

    def fleet(self, runs: Runs, delivery: Delivery | None, nodes: tuple[NodeStatus, ...]) -> FleetStatus:
        """The fleet's counts and reason, with these nodes."""
        reason, conditions = explain.fleet(runs, self._publisher)
        if not reason and delivery is not None:
            reason = delivery.failure
        current = self._publisher.current
        return FleetStatus(
            generation=None if current is None else current.text,
            revision=self._registry.version.revision,
            registered=len(self._registry),
            waiting=len(self._waiting),
            reason=reason,
            conditions=conditions,
            nodes=nodes,
        )

    def node(self, identifier: str, runs: Runs, answer: Resolution | None) -> NodeStatus:
        """One node; `answer` is what it would be answered now, None while that is still to be decided."""
        seen = self.seen.get(identifier)
        served = self.served.get(identifier)
        return NodeStatus(
            identifier=identifier,
            registered=self._registry.get(identifier) is not None,
            waiting=identifier in self._waiting,
            served=served,
            last_seen=None
            if seen is None
            else datetime.fromtimestamp(seen, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            reason=explain.node(
                identifier, runs, answer, served, self._waiting.superseded.get(identifier, 0)
            ),
        )
