"""Where answers come from: one source registers nodes and resolves what each node gets."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from ..store.contract import Version
from .acknowledgement import Acknowledgement
from .protocol import Missing, NotReady, Ready
from .registration import NodeRegistration

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


class AcknowledgingSource(Protocol):
    """A source that remembers what its nodes have applied; a static one does not, and has no `/ack`."""

    async def acknowledge(self, acknowledgement: Acknowledgement) -> NotReady | None:
        """Remember, durably on return, what a node says of a generation. `NotReady` for a node that is not registered.

        Raises `StaleGeneration` unless the generation is the current or the previous one; `Unavailable` and its kin.
        """


class SharedSource(Protocol):
    """A source whose store other servers write to, too."""

    async def resolve(
        self, identifier: str, *, known: str | None = None, wait: float = 0.0, at_least: Version | None = None
    ) -> Resolution:
        """As `NodeConfigSource.resolve`, never from before `at_least`, the version that a server answered when the node
        registered; a node that is not known here is looked up in the store once."""
