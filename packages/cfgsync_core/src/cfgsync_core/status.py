"""Who is here, who is missing, and why it is not ready: the words of `GET /status`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from .protocol import Condition


class NodeStatus(msgspec.Struct, frozen=True):
    """One node as the server sees it. `served` and `applied` are generation text, `last_seen` is RFC 3339. `rebound`
    is there when the name was given to another secret, and says how often since this server began."""

    identifier: str
    registered: bool
    waiting: bool
    served: str | None = None
    applied: str | None = None
    last_failure: str | None = None
    last_seen: str | None = None
    reason: str = ""
    rebound: int | msgspec.UnsetType = msgspec.UNSET


class FleetStatus(msgspec.Struct, frozen=True):
    """The fleet. `registered` and `waiting` are counts, `revision` the registrations' number. `insecure` is there when
    the server is open to other machines and lacks something: "no-tls", "no-auth"."""

    generation: str | None
    revision: int
    registered: int
    waiting: int
    reason: str
    conditions: tuple[Condition, ...]
    nodes: tuple[NodeStatus, ...]
    insecure: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


@runtime_checkable
class StatusSource(Protocol):
    """What can answer `/status` and `/readyz`."""

    def fleet(self, limit: int, after: str) -> FleetStatus:
        """The first `limit` nodes after identifier `after`, in identifier order, and the fleet's counts."""

    def node(self, identifier: str) -> NodeStatus:
        """One node, and why it is where it is; a stranger has `registered` False."""

    async def ping(self) -> None:
        """Return when the store answers; raise `Unavailable` when it does not."""
