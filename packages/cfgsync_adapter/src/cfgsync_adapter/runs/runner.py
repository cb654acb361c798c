"""One run at a time, never on the request path: when a run starts, what it sees, and what its verdict means.

A run starts at once when the last one began over 100 ms ago. Otherwise it starts 100 ms, or 20 times the processor time of
the last run, after that one began: the later of the two, at most 1 s. It sees what changes until then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from cfgsync_core import NEVER, CfgsyncError, MaterializationFailed, NotReady, Unavailable

from ..application.documents_feed import DocumentsFeed
from ..application.failure import failed, overdue, raised_at
from ..application.snapshot import RegistrationSnapshot
from ..generations.generation import Generation, Source
from ..generations.publisher import Publisher
from ..generations.replacements import Replacements, overlay
from ..generations.shrink_guard import ShrinkGuard, ShrinkRefused
from ..nodes.registry import Registry
from .decider import Decider
from .held_back import HeldBack
from .run_log import RunLog

SPACING, PROCESSOR_SHARE, LONGEST_SPACING = 0.1, 20.0, 1.0
ASK_AGAIN, FAILED_AGAIN, FAILED_LONGEST = 5.0, 1.0, 60.0


class Verdict(msgspec.Struct, frozen=True):
    """The result of a run on everything up to `source`: a Generation, a NotReady, or the error that it failed with."""

    source: Source
    outcome: Generation | NotReady | CfgsyncError


class Runner:
    """Runs the materializer. Call `start()` when the buckets are read, then `changed()` after each change of the registry.

    `on_verdict` is called on the event loop after each finished run; a Generation in it is already committed. With
    `expose_errors`, the words of a failure are for everyone.
    """

    def __init__(
        self,
        decider: Decider,
        registry: Registry,
        publisher: Publisher,
        replacements: Replacements,
        *,
        on_verdict: Callable[[Verdict], None],
        guard: ShrinkGuard,
        documents: DocumentsFeed | None = None,
        frozen: bool = False,
        run_timeout: float = 60.0,
        expose_errors: bool = False,
        expected: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decider = decider
        self._registry = registry
        self._publisher = publisher
        self._replacements = replacements
        self._on_verdict = on_verdict
        self._guard = guard
        self._documents = documents
        self._freezes = frozen
        self._run_timeout = run_timeout
        self._expose_errors = expose_errors
        self._clock = clock
        self._wake = asyncio.Event()
        self._is_started = False
        self._last_start = float("-inf")
        self._last_end = float("-inf")
        self._processor_seconds = 0.0
        self._failures = 0
        self.expected = expected
        """The nodes that the materializer waits for; () when it does not say."""
        self.count = 0
        self.tally = RunLog()
        self.held_back = HeldBack(registry, publisher, lambda: self.is_frozen)
        self._snapshot = RegistrationSnapshot()  # of the last run of a fleet that freezes
        self.verdict: Verdict | None = None
        self._finished = asyncio.Event()

    @property
    def source(self) -> Source:
        """What a run that started now would be made from."""
        replacements = self._replacements.version
        return Source(
            self._publisher.mine,
            self._registry.version,
            None if self._documents is None else self._documents.current.version,
            replacements=None if replacements == NEVER else replacements,
        )

    @property
    def superseded(self) -> bool:
        """True when another server has made a newer claim: this one serves, and publishes nothing."""
        return self._publisher.mine < self._publisher.claim.number

    @property
    def reverts(self) -> int:
        """The number of the generation to which the active claim has gone back; 0 for none."""
        return self._publisher.claim.reverts

    @property
    def is_frozen(self) -> bool:
        """True when the active claim has taken a change back, or `late="freeze"` and it has its generation."""
        current = self._publisher.current
        if self.reverts:
            return True
        return self._freezes and current is not None and current.source.claim >= self._publisher.mine

    def start(self) -> asyncio.Task[None]:
        """Returns the task that makes the runs."""
        current = self._publisher.current
        if current is not None:
            self.tally.generation = current.text
            if current.source.covers(self.source):
                self.verdict = Verdict(current.source, current)
        self.held_back.recall(self._snapshot)
        self._is_started = True
        return asyncio.create_task(self._run_for_ever(), name="cfgsync-runs")

    def changed(self) -> None:
        """The registry changed, or the claim, or a replacement: a run is due."""
        self._wake.set()

    def adopted(self) -> None:
        """The publisher has read what another server committed: a generation, or a claim."""
        if not self._is_started:
            return
        current, last = self._publisher.current, self.verdict
        is_new = last is None or last.outcome is not current
        if is_new and current is not None and current.source.covers(self.source):
            self._failures = 0
            self._decide(Verdict(current.source, current))
        self.changed()

    async def verdict_on(self, claim: int) -> Verdict:
        """The first verdict on this claim, or a later one. The caller sets the time limit."""
        while self.verdict is None or self.verdict.source.claim < claim:
            await self._finished.wait()
        return self.verdict

    def _due_in(self) -> float | None:
        """Seconds until the next run, None when only a change makes one."""
        if self.is_frozen or self.superseded or not len(self._registry):
            return None
        if self._decider.busy:
            return None  # a run that passed its deadline has not returned yet, and runs never overlap
        now, verdict = self._clock(), self.verdict
        if verdict is None or not verdict.source.covers(self.source):
            spacing = min(max(SPACING, PROCESSOR_SHARE * self._processor_seconds), LONGEST_SPACING)
            return self._last_start + spacing - now
        if isinstance(verdict.outcome, Generation):
            return None
        if isinstance(verdict.outcome, NotReady):
            again = verdict.outcome.retry_after
            return self._last_end + (ASK_AGAIN if again is None else max(again, 0.01)) - now
        return self._last_end + min(FAILED_AGAIN * 2.0 ** (self._failures - 1), FAILED_LONGEST) - now

    async def _run_for_ever(self) -> None:
        while True:
            self._wake.clear()
            due = self._due_in() if await self._is_continued() else FAILED_AGAIN
            if due is None or due > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(due):
                        await self._wake.wait()
                continue
            self._last_start = self._clock()
            # a revert, or another server, may have published the current one
            if (current := self._publisher.current) is not None:
                self.tally.generation = current.text
            verdict = await self._run()
            self._last_end = self._clock()
            outcome = None if verdict is None else verdict.outcome
            self.tally.add(self.count, outcome, self._last_end - self._last_start)
            if verdict is not None and not self._is_decided(verdict):
                self._failures = self._failures + 1 if isinstance(verdict.outcome, CfgsyncError) else 0
                self._decide(verdict)

    async def _is_continued(self) -> bool:
        """After a new epoch, also of a frozen fleet, the current generation stays the one of its registrations. False while the
        store does not take it."""
        try:
            await self._publisher.continued(self.source)
        except Unavailable:
            return False
        self.held_back.recall(self._snapshot)
        await self.held_back.keep()
        return True

    def _decide(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self._finished.set()
        self._finished = asyncio.Event()
        self._on_verdict(verdict)

    def _is_decided(self, verdict: Verdict) -> bool:
        """True for a run without a generation when another server has published one of its source."""
        last = self.verdict
        return (
            last is not None
            and isinstance(last.outcome, Generation)
            and not isinstance(verdict.outcome, Generation)
            and last.source.covers(verdict.source)
        )

    async def _run(self) -> Verdict | None:
        """One run and its verdict; None when its source is outdated."""
        source = self.source
        deadline: asyncio.Timeout | None = None
        self.count += 1
        try:
            await self._decider.ready()
            snapshot = self._registry.snapshot()
            if self._freezes:
                self._snapshot = snapshot
            source, replaced = self.source, self._replacements.by_node()  # in one step with the snapshot
            documents = None if self._documents is None else self._documents.current
            async with asyncio.timeout(self._run_timeout) as deadline:
                try:
                    decision = await self._decider.decide(snapshot, documents)
                except Unavailable as error:  # an application's own: this server's store was not asked
                    raise failed(error) from error
            self._processor_seconds = decision.processor_seconds
            self.tally.processor_seconds += decision.processor_seconds
            if isinstance(decision.answer, NotReady):
                return Verdict(source, decision.answer)
            prepared = decision.answer
            if replaced:
                prepared = await asyncio.to_thread(overlay, prepared, replaced, snapshot)

            generation = await self._publisher.publish(
                prepared, source, lambda last: self._guard.check(last, prepared, snapshot)
            )
            if generation is None:
                await self._replacements.catch_up()  # another server may have seen newer ones
        except (Unavailable, ShrinkRefused) as error:
            return Verdict(source, error)
        except Exception as error:
            if isinstance(error, MaterializationFailed):
                found = MaterializationFailed(error.cause, error.at or raised_at(error), error.trace)
            elif isinstance(error, TimeoutError) and deadline is not None and deadline.expired():
                found = overdue(error, self._run_timeout)
            else:
                found = failed(error)
            exposed = self._expose_errors
            return Verdict(source, MaterializationFailed(found.cause, found.at, found.trace, exposed=exposed))
        return None if generation is None else Verdict(generation.source, generation)
