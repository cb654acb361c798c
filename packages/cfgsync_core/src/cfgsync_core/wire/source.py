"""The sources of answers: a source registers nodes and resolves each node's files."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from ..store.contract import Version
from .acknowledgement import Acknowledgement
from .headers import Turn
from .protocol import Kept, Missing, NotReady, Ready
from .registration import NodeRegistration

Resolution: TypeAlias = Ready | NotReady | Missing
"""A source's answer to one node."""


class NodeConfigSource(Protocol):
    """Registers nodes and answers them; a server makes it available to other machines."""

    async def register(self, registration: NodeRegistration) -> Version | Missing:
        """Record the registration, durably on return. `Missing` when this source has nothing for the node.

        Raises `Unavailable`; `StoreFull`; `OutcomeUnknown` (register again: it is idempotent by content).
        """

    async def resolve(self, identifier: str, *, known: str | None = None, wait: float = 0.0) -> Resolution:
        """This node's answer. Waits up to `wait` seconds while it is not ready, and while its digest is `known`.

        Raises `MaterializationFailed` when the newest run has failed and no generation has the node.
        """


class AcknowledgingSource(Protocol):
    """A source that records acknowledgements."""

    async def acknowledge(self, acknowledgement: Acknowledgement) -> NotReady | Missing | None:
        """Record an acknowledgement, durably on return if the source has a store. `NotReady` for a node that is not
        registered, `Missing` for one that a static source does not serve.

        Raises `StaleGeneration` unless the generation is the current or the previous one (or absent, from a static
        source); `InvalidRequest` without a generation where there are some; `Unavailable` and its kin.
        """


class PresenceSource(Protocol):
    """A source that keeps what its nodes promise."""

    def keeps(self, identifier: str, seconds: int) -> bool:
        """True when `promise` has nothing to do: the same promise is kept, and the node's next question is awaited."""

    async def promise(self, identifier: str, seconds: int | None) -> None:
        """The node will be heard of again within so many seconds; None: it makes no such promise. Durable on return.

        Nothing happens for a node that is not registered. Raises `Unavailable` and its subclasses.
        """


class FleetSource(Protocol):
    """A source of a fleet whose nodes may take turns, and whose store other servers may write to as well."""

    async def turn_to(
        self,
        identifier: str,
        *,
        known: str | None = None,
        wait: float = 0.0,
        at_least: Version | None = None,
        seen: Version | None = None,
        turn: Turn | None = None,
    ) -> Resolution | Kept:
        """As `NodeConfigSource.resolve`, for a node that takes turns as `turn` says (None: it takes none). Never older than
        `at_least`, a server's answer to the registration, and than the generation `seen`, if the store has that; an unknown
        node is looked up in the store once."""
