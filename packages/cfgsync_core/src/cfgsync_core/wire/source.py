"""Where answers come from: one source registers nodes and resolves what each is to get."""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

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


@runtime_checkable
class AcknowledgingSource(Protocol):
    """A source that remembers what its nodes have applied; a static one does not, and has no `/ack`."""

    async def acknowledge(self, acknowledgement: Acknowledgement) -> NotReady | None:
        """Remember, durably on return, what a node says of a generation. `NotReady` when it is not registered.

        Raises `StaleGeneration` unless the generation is the current or the previous one; `Unavailable` and its kin.
        """


@runtime_checkable
class MembershipSource(Protocol):
    """A source whose nodes can be made to leave."""

    async def evict(self, identifier: str) -> bool:
        """Delete this node's registration, durably on return; False when there is none. It may register again.

        Raises `Unavailable` and its kin.
        """


@runtime_checkable
class SharedSource(Protocol):
    """A source whose store other servers write too, when `shares_store` says so."""

    @property
    def shares_store(self) -> bool:
        """False: nobody else writes, and `resolve` need not be told what the node has seen."""

    async def resolve(
        self, identifier: str, *, known: str | None = None, wait: float = 0.0, at_least: Version | None = None
    ) -> Resolution:
        """As `NodeConfigSource.resolve`, never from before `at_least`, the version that the node was told when it
        registered, perhaps by another server; a node that is not known is looked up in the store once."""
