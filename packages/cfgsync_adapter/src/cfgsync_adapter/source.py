"""Registers nodes and answers each from the current generation, in a server or without one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Literal, Self, get_args

from cfgsync_core import (
    Acknowledgement,
    CfgsyncError,
    ChangeHints,
    FleetStatus,
    InvalidRequest,
    MemoryStore,
    NodeRegistration,
    NodeStatus,
    NotReady,
    Ready,
    Resolution,
    RevisionedStore,
    StaleGeneration,
    StoreAdmin,
    Unavailable,
    Version,
)
from cfgsync_core.follow import OtherServers
from cfgsync_core.log_events import event
from cfgsync_core.wire import Kept, Turn

from .answers.held_requests import HeldRequest
from .answers.node_answer import not_registered
from .application.documents_feed import DocumentsFeed
from .application.materializer import (
    MaterializedArtifactsSink,
    SnapshotMaterializer,
    expected_nodes,
    refuse_no_materializer,
    revision_of,
)
from .generations.generation import Generation
from .generations.shrink_guard import DEFAULT_PERCENT, ShrinkGuard
from .nodes.last_seen import LastSeen
from .nodes.membership import BeforeLeaving
from .parts import SourceParts
from .rollout.policy import Rollout
from .runs.decider import Decider, ThreadDecider

log = logging.getLogger("cfgsync")

Late = Literal["follow", "freeze"]
"""What happens to a node that registers or changes after a generation was published; see `RegistrationConfigSource`."""


class RegistrationConfigSource:
    """Registers nodes in `store` and answers each from the current generation of `materializer`, which is called in a
    thread. Give a `decider` instead to call it elsewhere. The first call starts the runs; `async with` ends them.
    `late` is for a node that registers or changes after a generation was published: `"follow"` makes the next generation,
    `"freeze"` refuses the node with a reason. `revision` (default: the materializer's attribute, else `""`) is the version of
    the program that decides; when it is another one than last time, all nodes get a new generation. `sink` receives exactly
    what is served: after the compare-and-set, at least once, also after a crash. `run_timeout` is in seconds. Nodes and
    `/status` get the type and place of a failure, with `expose_errors` its words, which may hold a secret. `shrink_guard` is
    a percentage (0 is off): a result that leaves out more of the last generation's nodes, or files, is a failed run, unless
    `accept_shrink()` was called on it. A node that promised to be heard of and sends nothing for `ttl` seconds leaves (None:
    never). `before_leaving` is awaited with the names of the nodes that are about to leave, and frees what belongs to them.

    `documents` feeds a materializer that reads some; without `admin`, which `ping` calls, a source is always ready. With
    `hints`, other servers share the store: this one reads what they commit, after their hints and every `interval` s.
    `rollout` says how a change reaches nodes that take turns. `parts.operator` has the commands of an operator.
    """

    def __init__(
        self,
        materializer: SnapshotMaterializer | None = None,
        *,
        decider: Decider | None = None,
        store: RevisionedStore | None = None,
        admin: StoreAdmin | None = None,
        late: Late = "follow",
        revision: str | None = None,
        sink: MaterializedArtifactsSink | None = None,
        run_timeout: float = 60.0,
        expose_errors: bool = False,
        shrink_guard: float = DEFAULT_PERCENT,
        ttl: float | None = None,
        documents: DocumentsFeed | None = None,
        before_leaving: BeforeLeaving | None = None,
        seen: LastSeen | None = None,
        hints: ChangeHints | None = None,
        interval: float = 15.0,
        rollout: Rollout | None = None,
    ) -> None:
        if late not in get_args(Late):
            raise ValueError(f"late={late!r}: give 'follow' or 'freeze'")
        if materializer is not None:
            refuse_no_materializer(materializer, "a source")
        self._store: RevisionedStore = MemoryStore() if store is None else store
        self._admin = admin
        thread = None if materializer is None else ThreadDecider(materializer)
        decider = decider or thread
        if decider is None:
            raise ValueError("give a materializer, or a decider")
        self.parts = SourceParts(
            decider,
            self._store,
            revision=revision_of(materializer or decider, revision, documents is not None),
            frozen=late == "freeze",
            sink=sink,
            run_timeout=run_timeout,
            expose_errors=expose_errors,
            expected=expected_nodes(materializer or decider),
            guard=ShrinkGuard(shrink_guard),
            documents=documents,
            ttl=ttl,
            before_leaving=before_leaving,
            seen=LastSeen() if seen is None else seen,
            others=None if hints is None else OtherServers(hints, interval),
            rollout=Rollout() if rollout is None else rollout,
        )
        if thread is not None:
            thread.on_idle = self.parts.runs.changed
        self._registry, self._membership = self.parts.registry, self.parts.membership
        self._answers = self.parts.answers
        self._opening = asyncio.Lock()
        self._opened: AsyncExitStack | None = None
        self._draining: Unavailable | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Read the store and start the runs. A second call does nothing."""
        async with self._opening:
            if self._opened is None:
                self._opened = await self.parts.open()

    async def close(self) -> None:
        """Answer every held request, and end the runs. The store stays open."""
        self.drain()
        if self._opened is not None:
            await self._opened.aclose()

    def drain(self) -> None:
        """Answer every held request, and every request from now on, with `Unavailable`."""
        self._draining = Unavailable("this server is stopping")
        self._answers.held.release(self._draining)

    async def settled(self, timeout: float) -> None:
        """Return when a run for the newest claim has finished, or after `timeout` seconds."""
        if len(self._registry) and not self.parts.runs.superseded:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self.parts.runs.verdict_on(self.parts.publisher.mine)

    async def register(self, registration: NodeRegistration) -> Version:
        """See `NodeConfigSource`."""
        if self._opened is None or self._draining is not None:
            await self._ready()
        version = await self._registry.register(registration)
        self._membership.touch(identifier := registration.identifier)
        self._registry.warn_of_loopback()
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s is registered", identifier, extra=event("registered", identifier=identifier))
        return version

    async def resolve(
        self, identifier: str, *, known: str | None = None, wait: float = 0.0, at_least: Version | None = None
    ) -> Resolution:
        """See `NodeConfigSource`. A caller in this process takes no turns: it gets the current generation."""
        answer = await self.turn_to(identifier, known=known, wait=wait, at_least=at_least)
        return (self.given(identifier) or not_registered(identifier)) if isinstance(answer, Kept) else answer

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
        """See `FleetSource`."""
        if self._opened is None or self._draining is not None:
            await self._ready()
        if identifier not in self._registry.entries or self.parts.is_behind(at_least, seen):
            await self.parts.catch_up()
        now = self._answers.now(identifier)
        if isinstance(now, NotReady):
            return now  # it is not registered
        known_here = self._membership.touch(identifier)
        answer = self._answers.asked(identifier, now, known, turn, wait)
        if isinstance(answer, HeldRequest):
            answer = await self._answers.held.hold(answer)
            if identifier in self._registry.entries:
                known_here = self._membership.touch(identifier)  # it was not silent while it was held
        if isinstance(answer, CfgsyncError):
            raise answer
        if isinstance(answer, Ready):
            self.parts.was_served(known_here, answer.generation)
        return answer

    def keeps(self, identifier: str, seconds: int) -> bool:
        """See `PresenceSource`."""
        return self._membership.keeps(identifier, seconds)

    async def promise(self, identifier: str, seconds: int | None) -> None:
        """See `PresenceSource`."""
        await self._ready()
        await self._membership.promise(identifier, seconds)

    async def lapse(self, identifier: str) -> bool:
        """Whether another secret may take this name; see `Membership.lapse`."""
        return await self._membership.lapse(identifier)

    async def acknowledge(self, acknowledgement: Acknowledgement) -> NotReady | None:
        """See `AcknowledgingSource`."""
        identifier, named = acknowledgement.identifier, acknowledgement.generation
        if named is None:
            raise InvalidRequest(422, "generation: missing")
        await self._ready()
        publisher = self.parts.publisher
        if identifier not in self._registry or publisher.named(named) is None:
            await self.parts.catch_up()
        if identifier not in self._registry:
            return not_registered(identifier)
        self._membership.touch(identifier)
        given = self.parts.turns.given(identifier, named)
        if given is None:
            raise StaleGeneration(named, None if publisher.current is None else publisher.current.text)
        await self.parts.acknowledgements.record(acknowledgement, is_given=given == acknowledgement.digest)
        if identifier not in self._registry:  # it left meanwhile
            await self.parts.acknowledgements.forget([identifier])
            return not_registered(identifier)
        return None

    async def evict(self, identifier: str) -> bool:
        """See `MembershipSource`."""
        await self._ready()
        if identifier not in self._registry:
            await self.parts.catch_up()
        return await self._membership.evict(identifier)

    def fleet(self, limit: int, after: str) -> FleetStatus:
        """See `StatusSource`."""
        return self.parts.status.fleet(limit, after)

    def nodes(self, limit: int, after: str) -> Sequence[NodeStatus]:
        """See `StatusSource`."""
        return self.parts.status.nodes(limit, after)

    def node(self, identifier: str) -> NodeStatus:
        """See `StatusSource`."""
        return self.parts.status.node(identifier)

    def registration(self, identifier: str) -> NodeRegistration | None:
        """See `NodeDetails`."""
        return self._registry.get(identifier)

    def given(self, identifier: str) -> Ready | None:
        """See `NodeDetails`: also while a newer one is being made; nothing to a node that a frozen one holds back."""
        parts = self.parts
        return None if parts.runs.held_back.is_late(identifier) else parts.publisher.given(identifier)

    def is_replaced(self, identifier: str) -> bool:
        """See `NodeDetails`: in the current generation."""
        return self.generation is not None and identifier in self.generation.replaced

    def subscribe(self, heard: Callable[[], None]) -> Callable[[], None]:
        """See `ChangingSource`."""
        return self.parts.subscribers.subscribe(heard)

    async def ping(self) -> None:
        """Return when the store answers."""
        if self._admin is not None:
            await self._admin.ping()

    @property
    def runs(self) -> int:
        """How often the materializer was called since this source was opened."""
        return self.parts.runs.count

    @property
    def generation(self) -> Generation | None:
        """The current generation."""
        return self.parts.publisher.current

    async def _ready(self) -> None:
        """Open the source if it is not open. Raises `Unavailable` when it is being closed."""
        if self._opened is None:
            await self.open()
        if self._draining is not None:
            raise self._draining
