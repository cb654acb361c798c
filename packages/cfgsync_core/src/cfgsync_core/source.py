"""Where answers come from: one source registers nodes and resolves what each is to get."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from .protocol import Missing, NotReady, Ready
from .registration import NodeRegistration
from .store import Version

Resolution: TypeAlias = Ready | NotReady | Missing


class NodeConfigSource(Protocol):
    """Two verbs; a server is only a way to call them from another machine."""

    async def register(self, registration: NodeRegistration) -> Version | Missing:
        """Record the registration, durably on return. `Missing` when this source knows no such node.

        Raises `Unavailable`; `StoreFull`; `OutcomeUnknown` (register again: it is idempotent by content).
        """

    async def resolve(self, identifier: str, *, known: str | None = None, wait: float = 0.0) -> Resolution:
        """What this node gets. Holds up to `wait` seconds while it is not ready, and while its digest is `known`.

        Raises `MaterializationFailed` for a node that no generation holds while the newest run has failed.
        """
