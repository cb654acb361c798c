"""Who is here, who is missing, and why it is not ready: the words of `GET /status`."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import msgspec

from .protocol import Condition


class MissingNode(msgspec.Struct, frozen=True):
    """A node that somebody waits for. `last_seen` is RFC 3339, None when this server has never seen it."""

    identifier: str
    last_seen: str | None = None


class NodeBehind(msgspec.Struct, frozen=True):
    """A registered node that has not acknowledged what the current generation gives it, and why."""

    identifier: str
    reason: str


State: TypeAlias = Literal[
    "not_registered", "not_ready", "failed", "no_files", "ready", "served", "applied", "not_applied"
]
"""Where a node stands: the materializer is `not_ready` or has `failed`; its files are `ready`, `served` to it, `applied`
by it, or it said that it could `not_applied` them."""


class NodeStatus(msgspec.Struct, frozen=True):
    """One node as the server sees it. `served` and `applied` are generation text, `last_seen` is RFC 3339. `rebound`
    is there when the name was given to another secret, and says how often since this server began.

    `reason` is one sentence; its parts as data are `state`, `because` (the words of whoever is the cause: the
    materializer, its error, the node's own failure), `conditions`, and `missing`: who is waited for.
    """

    identifier: str
    registered: bool
    waiting: bool
    served: str | None = None
    applied: str | None = None
    last_failure: str | None = None
    last_seen: str | None = None
    reason: str = ""
    state: State = "not_registered"
    because: str = ""
    conditions: tuple[Condition, ...] = ()
    missing: tuple[MissingNode, ...] = ()
    rebound: int | msgspec.UnsetType = msgspec.UNSET


class FleetStatus(msgspec.Struct, frozen=True):
    """The fleet. `registered` and `waiting` are counts, `revision` the registrations' number. `insecure` is there when
    the server is open to other machines and lacks something: "no-tls", "no-auth".

    `applied` counts the registered nodes that have acknowledged what the current generation gives them, `behind` names
    the first of those `behind_count` that have not, and `converged` is True when a generation covers all registrations and nobody in
    it is behind. `missing` are the nodes that the conditions wait for.
    """

    generation: str | None
    revision: int
    registered: int
    waiting: int
    reason: str
    conditions: tuple[Condition, ...]
    nodes: tuple[NodeStatus, ...]
    applied: int = 0
    behind: tuple[NodeBehind, ...] = ()
    behind_count: int = 0
    converged: bool = False
    missing: tuple[MissingNode, ...] = ()
    insecure: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class StatusSource(Protocol):
    """What can answer `/status` and `/readyz`."""

    def fleet(self, limit: int, after: str) -> FleetStatus:
        """The first `limit` nodes after identifier `after`, in identifier order, and the fleet's counts."""

    def node(self, identifier: str) -> NodeStatus:
        """One node, and why it is where it is; a stranger has `registered` False."""

    async def ping(self) -> None:
        """Return when the store answers; raise `Unavailable` when it does not."""
