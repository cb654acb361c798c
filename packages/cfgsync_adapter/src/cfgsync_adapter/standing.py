"""Where the fleet and each node stand: what `/status` says of a source, put together from its parts."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec

from cfgsync_core import FleetStatus, NodeStatus, Resolution

from . import explain
from .delivering import Delivery
from .publishing import Publisher
from .registry import Registry
from .runs import Runs
from .waiting import Waiting


class _Node(msgspec.Struct, gc=False):
    """One Struct in one table, since each table costs a question of a large fleet three lines of cold memory."""

    seen: float | None = None
    served: str | None = None


_UNKNOWN = _Node()


class Standing:
    """What one server knows about its nodes besides their registrations: who was seen when (seconds since 1970), and
    which generation each was answered from."""

    def __init__(self, registry: Registry, publisher: Publisher, waiting: Waiting) -> None:
        self._registry = registry
        self._publisher = publisher
        self._waiting = waiting
        self._nodes: dict[str, _Node] = {}

    def registered(self, identifier: str) -> None:
        """It registers now."""
        self._of(identifier).seen = time.time()

    def asked(self, identifier: str) -> None:
        """It asks now: it is seen if it has registered with this server."""
        node = self._nodes.get(identifier)
        if node is not None and node.seen is not None:
            node.seen = time.time()

    def served(self, identifier: str, generation: str) -> None:
        """It is answered from this generation."""
        self._of(identifier).served = generation

    def _of(self, identifier: str) -> _Node:
        node = self._nodes.get(identifier)
        if node is None:
            node = self._nodes[identifier] = _Node()
        return node

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
        known = self._nodes.get(identifier, _UNKNOWN)
        seen, served = known.seen, known.served
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
