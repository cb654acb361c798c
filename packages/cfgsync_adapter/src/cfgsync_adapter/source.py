"""Registrations in, one generation out: the parts of one server put together, opened, and closed again.

It works in process, in a test, with no server: the first call starts its one run task, `async with` closes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

import msgspec

from cfgsync_artifacts import ArtifactSet
from cfgsync_core import (
    Acknowledgement,
    BucketSnapshot,
    CfgsyncError,
    ChangeHints,
    FleetStatus,
    MemoryStore,
    NodeRegistration,
    NodeStatus,
    NotReady,
    Ready,
    Resolution,
    RevisionedStore,
    StaleGeneration,
    Steps,
    StoreAdmin,
    Unavailable,
    Version,
    Whole,
    event,
)

from .answers import explain
from .answers.held_requests import NodeAnswer
from .answers.node_answer import NodeAnswers, stranger
from .application.materializer import MaterializedArtifactsSink, RegistrationSnapshotMaterializer
from .generations import generations_held, replacements
from .generations.delivery import Delivery
from .generations.generation import Generation
from .generations.publisher import Publisher
from .generations.replacements import Replacements
from .generations.shrink_guard import DEFAULT_PERCENT, ShrinkGuard
from .nodes import acknowledgements, registry
from .nodes.acknowledgements import Acknowledgements
from .nodes.last_seen import LastSeen
from .nodes.membership import BeforeLeaving, Departure, Membership
from .nodes.registry import Registry
from .runs import by_operator as by_hand
from .runs.by_operator import Renewal
from .runs.decider import Decider, ThreadDecider
from .runs.runner import Runner, Verdict
from .runs.tally import RunCounts
from .sharing import Sharing
from .status.contents import GenerationSummary, summarize_head
from .status.fleet_status import StatusReader
from .status.subscribers import Subscribers

log = logging.getLogger("cfgsync")

Late = Literal["follow", "freeze"]


class RegistrationConfigSource:
    """Registers nodes in `store` and answers each from the current generation of `materializer`, which is called in a
    thread; a `Decider` asks one that runs elsewhere.

    `late` says what becomes of a node that registers or changes after a generation stands: `"follow"` makes the next
    generation, `"freeze"` refuses it with a reason. `revision` (default: the materializer's attribute, else `""`)
    names the version of the program that decides; another one than last time makes a new generation of everybody.
    `sink` receives exactly what is served: after the compare-and-set, at least once, also after a crash.
    `run_timeout` is in seconds. `shrink_guard` is a percentage (0 is off): a result that leaves out more of the last
    generation's nodes, or files, is a failed run, unless it is `accept_shrink()`ed. `ttl` is in seconds (None: nobody
    expires): a registration that is not refreshed so long leaves. `before_leaving` is awaited with the names of those
    who are about to leave, and frees what else belongs to them.

    `admin` is the engine's own side of `store`, which `ping` asks; without it a source is always ready.
    `hints` say that other servers share the store: what they commit is followed, by their hints and every `interval`
    seconds, and a node that they know is answered here.
    """

    def __init__(
        self,
        materializer: RegistrationSnapshotMaterializer | Decider,
        *,
        store: RevisionedStore | None = None,
        admin: StoreAdmin | None = None,
        late: Late = "follow",
        revision: str | None = None,
        sink: MaterializedArtifactsSink | None = None,
        run_timeout: float = 60.0,
        shrink_guard: float = DEFAULT_PERCENT,
        ttl: float | None = None,
        before_leaving: BeforeLeaving | None = None,
        seen: LastSeen | None = None,
        hints: ChangeHints | None = None,
        interval: float = 15.0,
    ) -> None:
        self._store: RevisionedStore = MemoryStore() if store is None else store
        self._admin = admin
        self._materializer = materializer
        self._late = late
        self._revision = str(getattr(materializer, "revision", "")) if revision is None else revision
        self._sink = sink
        self._delivery: Delivery | None = None
        self._run_timeout = run_timeout
        self._guard = ShrinkGuard(shrink_guard)
        self._opening = asyncio.Lock()
        self._registry = Registry(self._store, on_change=self._registry_moved)
        self._publisher = Publisher(self._store)
        self._replacements = Replacements(self._store)
        self._rows = NodeAnswers(self._registry, self._publisher)
        self._waiting = self._rows.waiting
        self._runs: Runner | None = None
        self._listeners = Subscribers()
        self._acknowledgements = Acknowledgements(self._store, on_change=self._listeners.changed)
        self._seen = LastSeen() if seen is None else seen
        self._membership = Membership(
            self._registry,
            self._acknowledgements,
            self._seen,
            self._waiting,
            ttl=ttl,
            before_leaving=before_leaving,
            on_left=self._left,
        )
        self._standing = StatusReader(
            self._registry,
            self._publisher,
            self._waiting,
            self._acknowledgements,
            self._seen,
            self._membership,
        )
        if hints is not None and ttl is not None:
            raise ValueError("a server that shares its store does not know whom the others hear of: no ttl")
        self._sharing = None if hints is None else self._shared(hints, interval)
        self._draining: Unavailable | None = None
        self._first_verdict = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Load the registrations and the current generation, and start the run task. Again: nothing."""
        async with self._opening:
            if self._runs is not None:
                return
            await self._registry.open()
            await self._acknowledgements.open(
                # another server may have registered it since the registry was read
                lambda name: self._sharing is not None or name in self._registry
            )
            self._standing.remembers = self._registry.version.revision > 0
            await self._publisher.open(self._revision)
            await self._replacements.open()
            asked = self._materializer
            self._runs = Runner(
                asked if isinstance(asked, Decider) else ThreadDecider(asked, on_idle=self._registry_moved),
                self._registry,
                self._publisher,
                self._replacements,
                on_verdict=self._verdict_came,
                guard=self._guard,
                frozen=self._late == "freeze",
                run_timeout=self._run_timeout,
            )
            self._rows.begin(self._runs)
            self._runs.start()
            self._membership.start()
            if self._sharing is not None:
                await self._sharing.start()
            if self._sink is not None:
                self._delivery = Delivery(self._sink, self._publisher)
                self._delivery.start()

    async def close(self) -> None:
        """Answer everybody who waits, and end the run task. The store is whoever opened it's to close."""
        self.drain()
        await self._membership.close()
        if self._sharing is not None:
            await self._sharing.close()
        if self._runs is not None:
            await self._runs.close()
        if self._delivery is not None:
            await self._delivery.close()

    def drain(self) -> None:
        """Tell everybody who waits, and everybody who asks from now on, to come back later."""
        self._draining = Unavailable("this server is stopping")
        self._waiting.release(self._draining)

    async def settled(self, timeout: float) -> None:
        """Return when the newest claim has its first verdict, or after `timeout` seconds."""
        runs = self._running()
        if len(self._registry) and runs.verdict is None and not runs.superseded:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._first_verdict.wait()

    async def register(self, registration: NodeRegistration) -> Version:
        if self._runs is None:
            await self.open()
        if self._draining is not None:
            raise self._draining
        version = await self._registry.register(registration)
        self._membership.heard(registration.identifier)
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "%s is registered",
                registration.identifier,
                extra=event("registered", identifier=registration.identifier, revision=version.revision),
            )
        return version

    @property
    def shares_store(self) -> bool:
        """See `SharedSource`."""
        return self._sharing is not None

    async def resolve(
        self, identifier: str, *, known: str | None = None, wait: float = 0.0, at_least: Version | None = None
    ) -> Resolution:
        if self._runs is None:
            await self.open()
        if self._draining is not None:
            raise self._draining
        if self._sharing is not None and (
            self._registry.revision_of(identifier) is None
            or (at_least is not None and at_least > self._registry.version)
        ):
            await self._sharing.catch_up()
        answer: NodeAnswer | None = self._rows.now(identifier)
        if isinstance(answer, NotReady):
            return answer  # row 1: a stranger
        known_here = self._membership.heard(identifier)
        unchanged = known is not None and isinstance(answer, Ready) and answer.payload.digest == known
        if answer is None or (unchanged and wait > 0):
            answer = await self._rows.hold(identifier, known, wait)
            if self._registry.get(identifier) is not None:
                known_here = self._membership.heard(identifier)  # as long as it was held
        if isinstance(answer, CfgsyncError):
            raise answer
        if isinstance(answer, Ready) and answer.generation is not None:
            known_here.served = answer.generation
        return answer

    async def acknowledge(self, acknowledgement: Acknowledgement) -> NotReady | None:
        """See `AcknowledgingSource`."""
        await self._ready()
        identifier = acknowledgement.identifier
        if self._sharing is not None and not (
            identifier in self._registry and self._publisher.stands(acknowledgement.generation)
        ):
            await self._sharing.catch_up()
        if identifier not in self._registry:
            return stranger(identifier)
        self._membership.heard(identifier)
        if not self._publisher.stands(acknowledgement.generation):
            current = self._publisher.current
            raise StaleGeneration(acknowledgement.generation, None if current is None else current.text)
        await self._acknowledgements.record(acknowledgement, is_given=self._gives(acknowledgement))
        if self._registry.get(identifier) is None:  # it left meanwhile
            await self._acknowledgements.forget([identifier])
            return stranger(identifier)
        return None

    async def evict(self, identifier: str) -> bool:
        """See `MembershipSource`."""
        await self._ready()
        if self._sharing is not None and identifier not in self._registry:
            await self._sharing.catch_up()
        return await self._membership.evict(identifier)

    @property
    def left(self) -> Mapping[str, Departure]:
        """Who was evicted or expired while this source was open, the latest at the end, and is not back."""
        return self._membership.left

    async def renew(self, accept: bool = False, *, wait: float = 30.0) -> Renewal:
        """Claim by hand: one new generation of everybody, also when it is frozen; equal artifacts keep the number.

        `accept` lets the first generation of this claim leave out what the shrink guard would refuse. Waits up to
        `wait` seconds for the verdict. Raises `Unavailable` and its kin.
        """
        await self._ready()
        within = wait if len(self._registry) else 0.0
        return await by_hand.renew(self._publisher, self._running(), accept, within)

    async def replace(self, identifier: str, files: ArtifactSet) -> Version:
        """Give one node these files of its own in place of the materializer's, from the next generation on, for which
        a run starts; shared files still follow. No files: the materializer's come back. Frozen: `renew` first.

        Durable on return, for a node that is not registered too. Raises `DuplicatePath` for a path that is a shared
        one's; `PayloadTooLarge`; `Unavailable` and its kin.
        """
        await self._ready()
        return await by_hand.replace(self._publisher, self._replacements, self._running(), identifier, files)

    async def has_replacement(self, identifier: str) -> bool:
        """Whether files of an operator stand for this node. Raises `Unavailable` and its kin."""
        await self._ready()
        return identifier in self._replacements

    def fleet(self, limit: int, after: str) -> FleetStatus:
        """See `StatusSource`."""
        return self._standing.fleet(self._running(), self._delivery, limit, after, self._rows.now)

    def node(self, identifier: str) -> NodeStatus:
        """See `StatusSource`."""
        runs, current = self._running(), self._publisher.current
        words = self._standing.node(identifier, runs, self._rows.now(identifier))
        replaced = current is not None and identifier in current.replaced
        note = explain.replaced(identifier in self._replacements, replaced, runs)
        return msgspec.structs.replace(words, reason=f"{words.reason}; {note}") if note else words

    def subscribe(self, heard: Callable[[], None]) -> Callable[[], None]:
        """See `ChangingSource`."""
        return self._listeners.subscribe(heard)

    async def ping(self) -> None:
        """Return when the store answers."""
        if self._admin is not None:
            await self._admin.ping()

    @property
    def runs(self) -> int:
        """How often the materializer was called since this source was opened."""
        return self._running().count

    def generations(self) -> list[GenerationSummary]:
        """The generations that can still be told, newest first; the current and the previous one have contents."""
        current = self._publisher.current
        if current is None:
            return []
        held = {one.number for one in (current, self._publisher.previous) if one is not None}
        epoch = current.text.rpartition(".")[0]
        return [summarize_head(head, epoch, contents=head.number in held) for head in self._publisher.heads()]

    def held(self, number: int) -> Generation | None:
        """The generation of this number, while its files are held."""
        return self._publisher.numbered(number)

    def registered(self) -> tuple[Version, dict[str, NodeRegistration]]:
        """Every registration, and the version that has them."""
        return self._registry.registered()

    @property
    def shrinks_refused(self) -> int:
        """How many results the shrink guard refused since this source was made."""
        return self._guard.refused

    @property
    def tally(self) -> RunCounts:
        """What the runs came to since this source was opened."""
        return self._running().tally

    @property
    def generations_made(self) -> int:
        """How many generations this source has committed since it was made."""
        return self._publisher.made

    @property
    def behind(self) -> int:
        """How many registered nodes have not acknowledged what the current generation gives them."""
        return self._standing.behind(self._running())

    @property
    def generation(self) -> Generation | None:
        """The current generation."""
        return self._publisher.current

    async def _ready(self) -> None:
        """Return when it is open. Raises `Unavailable` when it is being closed."""
        if self._runs is None:
            await self.open()
        if self._draining is not None:
            raise self._draining

    def _running(self) -> Runner:
        if self._runs is None:
            raise RuntimeError("open the source first: `async with RegistrationConfigSource(…) as source`")
        return self._runs

    def _shared(self, hints: ChangeHints, interval: float) -> Sharing:
        """The buckets that other servers write to, followed."""
        sharing = Sharing(self._store, hints, interval)
        sharing.follow(registry.BUCKET, self._registry, self._others_registered)
        sharing.follow(generations_held.BUCKET, self._publisher, self._others_published, replay=False)
        sharing.follow(acknowledgements.BUCKET, self._acknowledgements, lambda news: None)
        sharing.refresh(
            replacements.BUCKET,
            lambda: self._replacements.held,
            self._replacements.refresh,
            self._registry_moved,
        )
        return sharing

    def _gives(self, said: Acknowledgement) -> bool:
        """Does the generation that is meant give the node these files?"""
        standing = (self._publisher.current, self._publisher.previous)
        given = [
            one.nodes.get(said.identifier)
            for one in standing
            if one is not None and one.text == said.generation
        ]
        return any(payload is not None and payload.digest == said.digest for payload in given)

    def _registry_moved(self) -> None:
        self._listeners.changed()
        if self._runs is not None:
            self._runs.changed()

    def _left(self, names: Sequence[str]) -> None:
        for name in names:
            self._waiting.settle(name)  # row 1

    def _others_registered(self, news: Whole[BucketSnapshot] | Steps) -> None:
        """The registry has moved, and has said so; who left is told (row 1)."""
        if isinstance(news, Whole) or any(None in change.writes.values() for change in news.changes):
            self._waiting.settle_all()

    def _others_published(self, news: Whole[BucketSnapshot] | Steps) -> None:
        """Another server has made a generation, or a claim: who waits for it here is answered."""
        self._running().adopted()
        if self._delivery is not None:
            self._delivery.changed()
        self._waiting.settle_all()

    def _verdict_came(self, verdict: Verdict) -> None:
        self._first_verdict.set()
        if self._delivery is not None:
            self._delivery.changed()
        self._waiting.settle_all()
        self._listeners.decided(verdict)
