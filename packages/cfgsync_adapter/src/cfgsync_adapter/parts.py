"""The parts of one source: which of them call each other after a change, and in which order they open and close."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack

from cfgsync_core import NEVER, RevisionedStore, Version
from cfgsync_core.follow import OtherServers, catch_up
from cfgsync_core.log_events import event

from .answers.explain import for_nobody, for_strangers
from .answers.node_answer import NodeAnswers
from .application.documents_feed import DocumentsFeed
from .application.materializer import MaterializedArtifactsSink, refuse_no_sink
from .generations.delivery import Delivery
from .generations.generation import Generation
from .generations.publisher import Publisher
from .generations.replacements import Replacements
from .generations.shrink_guard import ShrinkGuard
from .nodes.acknowledgements import Acknowledgements
from .nodes.last_seen import LastSeen, SeenNode
from .nodes.membership import BeforeLeaving, Membership
from .nodes.promises import Promises
from .nodes.registry import Registry, Writes
from .rollout.policy import Rollout
from .rollout.turns import Turns
from .runs.by_operator import OperatorVerbs
from .runs.decider import Decider
from .runs.runner import Runner, Verdict
from .status.fleet_status import StatusReader
from .status.subscribers import Subscribers

log = logging.getLogger("cfgsync")


class SourceParts:
    """What a `RegistrationConfigSource` consists of; see there for the arguments. Refuses the wrong ones."""

    def __init__(
        self,
        decider: Decider,
        store: RevisionedStore,
        *,
        revision: str,
        frozen: bool,
        sink: MaterializedArtifactsSink | None,
        run_timeout: float,
        expose_errors: bool,
        expected: Sequence[str],
        guard: ShrinkGuard,
        documents: DocumentsFeed | None,
        ttl: float | None,
        before_leaving: BeforeLeaving | None,
        seen: LastSeen,
        others: OtherServers | None,
        rollout: Rollout,
    ) -> None:
        if others is not None and ttl is not None:
            raise ValueError(
                "no ttl for a server that shares its store: it does not see the other servers' nodes"
            )
        for name, value in (("run_timeout", run_timeout), ("ttl", ttl)):
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise ValueError(f"{name}={value!r}: give a number of seconds above 0")
        if sink is not None:
            refuse_no_sink(sink, "a source")
        self._last_number = 0
        self.subscribers = Subscribers()
        self.registry = Registry(store, on_change=self._registered, others=others)
        self.acknowledgements = Acknowledgements(store, on_change=self._acknowledged, others=others)
        self.promises = Promises(store, others=others)
        self.replacements = Replacements(store, on_adopted=self._fleet_changed, others=others)
        self.publisher = Publisher(store, revision=revision, on_adopted=self._adopted, others=others)
        self.runs = Runner(
            decider,
            self.registry,
            self.publisher,
            self.replacements,
            on_verdict=self._decided,
            guard=guard,
            documents=documents,
            frozen=frozen,
            run_timeout=run_timeout,
            expose_errors=expose_errors,
            expected=expected,
        )
        self.documents = documents
        if documents is not None:
            documents.on_change = self._fleet_changed
        self.answers = NodeAnswers(self.registry, self.publisher, self.runs)
        self.turns = self.answers.turns = Turns(
            store,
            rollout,
            self.publisher,
            self.acknowledgements,
            seen,
            asking=self.answers.asking,
            is_held=self.answers.held.__contains__,
            on_step=self._turned,
            on_reverted=self._published,
            others=others,
        )
        self.membership = Membership(
            self.registry,
            self.acknowledgements,
            self.promises,
            seen,
            self.answers.held,
            ttl=ttl,
            before_leaving=[self.turns.leave, *([] if before_leaving is None else [before_leaving])],
        )
        self.operator = OperatorVerbs(self.registry, self.publisher, self.replacements, self.runs)
        self._delivery = None if sink is None else Delivery(sink, self.publisher, expose_errors)
        self.status = StatusReader(
            self.registry,
            self.publisher,
            self.replacements,
            self.runs,
            self.answers,
            self.acknowledgements,
            self.promises,
            seen,
            self.membership,
            self._delivery,
            self.turns,
        )
        # in the order in which they are opened: see `Acknowledgements.forget_strays`
        self._mirrors = (
            self.acknowledgements,
            self.promises,
            self.registry,
            self.replacements,
            self.publisher,
            self.turns,
        )

    async def open(self) -> AsyncExitStack:
        """Read the store and start the tasks; leaving the context that is returned ends them."""
        async with AsyncExitStack() as stack:
            for mirror in self._mirrors:
                stack.push_async_callback(mirror.close)
                await mirror.open()
            await self.acknowledgements.forget_strays(self.registry)
            self.status.remembered = self.registry.version.revision
            for part in (self.runs, self.membership, self.turns, self._delivery):
                if part is not None and (task := part.start()) is not None:
                    stack.push_async_callback(_end, task)
            return stack.pop_all()

    def is_behind(self, registrations: Version | None, generation: Version | None) -> bool:
        """Whether another server has told a node of later registrations, or of a later generation."""
        current = NEVER if self.publisher.current is None else self.publisher.current.version
        return (registrations or NEVER) > self.registry.version or (generation or NEVER) > current

    async def catch_up(self) -> None:
        """Return when everything that other servers committed before this call is in the mirrors. Raises `Unavailable`."""
        await catch_up(self._mirrors)

    def was_served(self, node: SeenNode, generation: str | None) -> None:
        """This node was sent this generation."""
        if generation != node.served:
            node.served = generation
            self.status.was_served()
            self.subscribers.changed()

    def _acknowledged(self) -> None:
        self.turns.changed()
        self.subscribers.changed()

    def _turned(self, names: Collection[str] | None) -> None:
        """The answers of these nodes (None: of all) may have changed."""
        self.subscribers.changed()
        if names is None:
            self.answers.held.settle_all()
        else:
            for name in names:
                self.answers.held.settle(name)

    def _fleet_changed(self) -> None:
        self.subscribers.changed()
        self.runs.changed()

    def _registered(self, writes: Writes) -> None:
        self._fleet_changed()
        if writes is None:
            self.answers.held.settle_all()
            return
        for name, registration in writes.items():
            if registration is None:
                self.answers.held.settle(name)  # it has left
            elif why := self.runs.held_back.why(name):
                log.warning("no files for %s: %s", name, why, extra=event("held_back", identifier=name))

    def _adopted(self) -> None:
        """Another server has published a generation, or made a claim."""
        self.runs.adopted()
        self._published()

    def _decided(self, verdict: Verdict) -> None:
        self._published()
        self._warn_if_for_nobody(verdict.outcome)
        self.subscribers.decided(verdict)

    def _warn_if_for_nobody(self, outcome: object) -> None:
        if not isinstance(outcome, Generation) or outcome.number == self._last_number:
            return
        self._last_number = outcome.number
        nodes = self.registry.entries
        if words := for_nobody(outcome, nodes) or for_strangers(outcome, nodes):
            log.warning("%s", words, extra=event("for_nobody", generation=outcome.text))

    def _published(self) -> None:
        if (current := self.publisher.current) is not None:
            self.registry.published(current.source.registrations)
        if self._delivery is not None:
            self._delivery.changed()
        self.turns.changed()
        self.answers.held.settle_all()
        self.runs.changed()  # a revert has published


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
