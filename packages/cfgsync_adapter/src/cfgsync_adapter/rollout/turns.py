"""Gives turns and ends them: one loop over the bucket `rollout`, whose every commit expects the `state` that it has read."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress

import msgspec

from cfgsync_core import Conflict, RevisionedStore, Unavailable, Version
from cfgsync_core.follow import BucketMirror, OtherServers
from cfgsync_core.log_events import event

from ..generations.generation import Generation
from ..generations.publisher import Publisher
from ..nodes.acknowledgements import Acknowledgements
from ..nodes.last_seen import LastSeen
from . import commands
from .fleet_view import FleetView
from .grants import LET_PASS, Answer, answer, granted
from .policy import Rollout
from .progress_log import log_progress
from .reverts import Reverts
from .settlement import begun, late, passed, settled, without
from .timing import TurnTimes
from .words import OUTCOME, OUTCOMES, STATE, TURN, Asking, Fleet, GivenTurn, Outcome, Record, Step, Words
from .written_turns import WrittenTurns

BUCKET = "rollout"
AGAIN = 1.0
SHARE, LONGEST = 2.0, 0.5
"""A pass is followed by a pause of so many times its length, at most so many seconds."""

log = logging.getLogger("cfgsync")

Value = Record | GivenTurn | Outcome


class NotThisGeneration(Exception):
    """An operator's command is about another generation than the current one."""


class Turns(BucketMirror[Value]):
    """The mirror of the rollout. `start()` it when the buckets are read, and call `changed()` after each change of what it
    reads. `asking` gives the held questions of nodes that take turns, `is_held` says whether a node's question is held.
    `on_step(names)` is called when these nodes' answers may have changed, with None when everybody's may.
    """

    def __init__(
        self,
        store: RevisionedStore,
        policy: Rollout,
        publisher: Publisher,
        acknowledgements: Acknowledgements,
        seen: LastSeen,
        *,
        asking: Callable[[], Iterable[Asking]],
        is_held: Callable[[str], bool],
        on_step: Callable[[Collection[str] | None], object],
        on_reverted: Callable[[], object],
        others: OtherServers | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            store,
            BUCKET,
            msgspec.json.Decoder(Value).decode,
            msgspec.json.Encoder().encode,
            on_change=self._stepped,
            others=others,
        )
        self.policy = policy
        self._publisher = publisher
        self._reverts = Reverts(publisher)
        self._acknowledgements = acknowledgements
        self._asking = asking
        self._on_step = on_step
        self._on_reverted = on_reverted
        self._wall = wall
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._turn_times = TurnTimes(policy, clock)
        self._view = FleetView(publisher, acknowledgements, seen, is_held, others is None, self._turn_times)
        self._written = WrittenTurns(is_needed=others is not None)
        self._well: set[str] = set()
        self._let_pass: set[str] = set()
        self.stored = Words()
        """What is committed."""
        self._begun: tuple[object, object, Words] = (None, None, self.stored)
        self.outcomes = {"rolled_out": 0, "halted": 0, "reverted": 0}
        """How many rollouts this server has seen end so."""

    # ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def words(self) -> Words:
        """The words for the current generation, which is not committed before a turn or a word about it."""
        stored, current = self.stored, self._publisher.current
        if self._begun[0] is not stored or self._begun[1] is not current:
            target = self._view.target()
            self._begun = stored, current, stored if target is None else begun(stored, target)
        return self._begun[2]

    @property
    def is_used(self) -> bool:
        """Whether there are nodes that take turns here."""
        return self.policy.mode != "all" and any(self._acknowledgements.groups.values())

    def answer(self, asking: Asking) -> Answer:
        """What this question is answered now."""
        if asking.known is None:
            return "files"
        target = self._view.target()
        if target is None or self.stored.record.generation > target.generation:
            return "kept"  # another server has published a newer one, which is being read
        found = answer(self.words, target, self.policy, asking)
        has_turn = asking.turn is not None and not asking.starts and asking.identifier in self.stored.turns
        if found == "files" and has_turn and not self._written.take(asking.identifier):
            self._wake.set()
            return "kept"
        return found

    def asked(self, asking: Asking, is_answered: bool) -> None:
        """A node that takes turns asks; its question `is_answered` at once, or held."""
        turn = self.stored.turns.get(asking.identifier)
        if (
            turn is not None
            and asking.turn is not None
            and asking.turn.mark == "steady"
            and not asking.starts
        ):
            if asking.known == asking.digest:
                self._well.add(asking.identifier)
            elif not is_answered and self._turn_times.age(asking.identifier) >= LET_PASS:
                self._let_pass.add(asking.identifier)
        self._wake.set()

    def given(self, identifier: str, generation: str) -> str | None:
        """The digest that this generation gives the node (`""`: none), if it is the current one, the previous one, or that
        of the node's turn."""
        named, turn = self._publisher.named(generation), self.stored.turns.get(identifier)
        if named is not None:
            payload = named.nodes.get(identifier)
            return "" if payload is None else payload.digest
        return turn.digest if turn is not None and str(turn.generation) == generation else None

    def has(self, generation: Generation, identifier: str) -> bool:
        """Whether the node has acknowledged what this generation gives it."""
        return self._view.has(generation, identifier)

    def outcome_of(self, number: int) -> str:
        """How the rollout of this generation ended, `""` while it has not, or when nobody takes turns."""
        found = self.entries.get(f"{OUTCOME}{number % OUTCOMES:02}")
        return found.words if isinstance(found, Outcome) and found.number == number else ""

    def fleet(self) -> Fleet | None:
        """What decisions read now; None without a generation."""
        return self._view.fleet(self.stored.turns.get)

    # ── what happens to it ───────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> asyncio.Task[None] | None:
        """Returns the task that gives turns; None when nobody takes turns here."""
        if self.policy.mode == "all":
            return None
        return asyncio.create_task(self._give_for_ever(), name="cfgsync-turns")

    def changed(self) -> None:
        """Something that decisions read has changed."""
        self._wake.set()

    async def leave(self, names: Iterable[str]) -> None:
        """The turns of these nodes end, durably on return: they leave. Raises `Unavailable` and its subclasses."""
        gone = set(names)
        while any(name in gone for name in self.stored.turns):
            with suppress(Conflict):
                await self._commit(without(self.stored, gone))

    async def command(self, decide: Callable[[Words], Words], generation: str | None = None) -> Words:
        """Carry out an operator's command about the current generation, which is this one. Raises `NotThisGeneration`;
        `Unavailable` and its subclasses."""
        while True:
            await self.catch_up()
            await self._publisher.catch_up()
            current = self._publisher.current
            if current is None or (generation is not None and generation != current.text):
                raise NotThisGeneration
            with suppress(Conflict):
                if decide is commands.retry:
                    record = self.words.record
                    await self._acknowledgements.forget_failures(record.failed | record.left_behind)
                await self._commit(decide(self.words))
                self._wake.set()
                return self.words

    async def reverted(self) -> None:
        """Return when the generation of a revert is published. The caller sets the time limit."""
        while self.words.record.reverting:
            await self._moved.wait()

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _give_for_ever(self) -> None:
        is_away = False
        while True:
            self._wake.clear()
            began = time.monotonic()
            try:
                due = await self._pass()
                is_away = False
            except Conflict:
                continue  # another server has decided, and what it committed is read
            except Exception as error:  # an unforeseen one, too, must not end all turns
                if not is_away:
                    trace = None if isinstance(error, Unavailable) else error
                    log.warning(
                        "no turns are given: %s", error, exc_info=trace, extra=event("turns_unavailable")
                    )
                is_away, due = True, AGAIN
            await asyncio.sleep(min(SHARE * (time.monotonic() - began), LONGEST))
            with suppress(TimeoutError):
                async with asyncio.timeout(due):
                    await self._wake.wait()

    async def _pass(self) -> float | None:
        """Decide once, and commit it. Returns the seconds until time alone changes something, None for never."""
        current = self._publisher.current
        if current is not None and self.stored.record.generation > current.version:
            await self._publisher.catch_up()
        before, fleet = self.stored, self.fleet()
        if fleet is None or before.record.generation > fleet.target.generation:
            return None if fleet is None else AGAIN
        started = begun(before, fleet.target)
        self._turn_times.follow(started.turns)
        well, let_pass = set(self._well), set(self._let_pass)
        times = self._turn_times
        words = settled(started, fleet, self.policy, {name for name in well if times.is_baked(name)})
        words = late(words, times.overdue(words.turns), fleet, self.policy, times.deadline)
        words = passed(words, let_pass)
        words = granted(words, fleet, self.policy, self._asking())
        again = self._written.wanted & words.turns.keys()
        if again or words != started or (fleet.size and words != before):
            await self._commit(words, again)
        self._well -= {name for name in well if name not in words.turns}
        self._let_pass -= let_pass
        await self._after(words)
        return self._turn_times.due(words.turns)

    async def _after(self, words: Words) -> None:
        """What follows from the words in the bucket of the generations."""
        if await self._reverts.followed(words.record):
            self._on_reverted()
            self._moved.set()
            self._wake.set()
        elif (number := self._reverts.by_itself(words.record, self.policy)) is not None:
            await self._commit(commands.halt_to_revert(words, number))
            self._wake.set()

    async def _commit(self, words: Words, again: Collection[str] = ()) -> None:
        """Write what differs from the stored words, and these turns `again`."""
        step = Step.between(self.stored, words, again)
        if step is None:
            return
        if (
            step.state.phase != self.stored.record.phase
            or step.state.generation != self.stored.record.generation
        ):
            since = msgspec.structs.replace(step.state, since_ms=int(self._wall() * 1000))
            step = msgspec.structs.replace(step, state=since)
        before = self.stored.record
        await self.commit(step.writes(), expected={STATE: self._revisions.get(STATE, 0)})
        self._on_step(self._written.add(name for name, turn in step.turns.items() if turn is not None))
        for one in step.outcomes:
            kind = "reverted" if one.words.startswith("reverted") else one.words.replace(" ", "_")
            self.outcomes[kind] += 1
        log_progress(before, step.state)

    def _stepped(self, writes: Mapping[str, Value | None] | None) -> None:
        """The bucket has changed: its words are read anew."""
        before = self.words
        found = self.entries.get(STATE)
        turns = {key[len(TURN) :]: turn for key, turn in self.entries.items() if isinstance(turn, GivenTurn)}
        self.stored = Words(found if isinstance(found, Record) else Record(), turns)
        now = self.words
        self._wake.set()
        self._moved.set()
        self._moved = asyncio.Event()
        if _shown(before.record) != _shown(now.record):
            self._on_step(None)
        else:
            self._on_step([name for name, turn in turns.items() if before.turns.get(name) != turn])


def _shown(record: Record) -> tuple[Version, str, bool]:
    return record.generation, record.phase, record.promoted
