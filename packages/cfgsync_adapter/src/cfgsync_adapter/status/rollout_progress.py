"""How far a rollout is, in counts, and the sentence of a node that waits for its turn. Counted once after each change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import msgspec

from cfgsync_core import Version
from cfgsync_core.text import plain, rfc3339
from cfgsync_core.wire import MAX_NAMES, MAX_REASON, FailedNode, RolloutStatus

from ..generations.publisher import Publisher
from ..nodes.acknowledgements import Acknowledgements
from ..rollout.grants import PRESENCE, needed_beside, others_present
from ..rollout.progress_log import failures
from ..rollout.turns import Turns
from ..rollout.words import Fleet, Words

NAMED: Final = 3


class RolloutProgress:
    """The rollout of one fleet."""

    def __init__(self, turns: Turns, publisher: Publisher, acknowledgements: Acknowledgements) -> None:
        self._turns = turns
        self._publisher = publisher
        self._acknowledgements = acknowledgements
        self._counted: tuple[object, object, int] | None = None
        self._status: RolloutStatus | None = None
        self._lonely = ""
        self._lonely_until = float("-inf")

    def status(self) -> RolloutStatus | None:
        """The state and the counts; None where no node takes turns."""
        if not self._turns.is_used:
            return None
        at = (self._turns.words, self._publisher.current, self._acknowledgements.changes)
        last = self._counted
        if (
            last is None
            or any(one is not other for one, other in zip(at[:2], last[:2], strict=True))
            or at[2] != last[2]
        ):
            self._counted, self._status = at, self._count(self._turns.words)
        if self._status is None or self._status.state != "rolling" or not self._status.waiting:
            return self._status
        if (
            now := time.monotonic()
        ) >= self._lonely_until:  # it changes as time passes, and is asked for each node
            self._lonely, self._lonely_until = _lonely(self._turns.fleet()), now + 1.0
        return msgspec.structs.replace(self._status, reason=self._lonely)

    def why_waits(self, identifier: str) -> str:
        """`generation 7 waits for its turn: node-4 is on it`, of a node that takes turns and has not this generation's
        files; `""` of another."""
        status, words = self.status(), self._turns.words
        group = self._acknowledgements.of(identifier).group
        if status is None or group is None or words.record.promoted:
            return ""
        current = self._publisher.current
        if current is None or current.at_once or self._turns.has(current, identifier):
            return ""
        turn, number = words.turns.get(identifier), words.record.generation.revision
        if turn is not None and not turn.ended:
            return f"it has its turn for generation {turn.generation.revision}"
        if words.record.failure_of(identifier) is not None:
            return ""
        if words.record.failed and words.record.halted:
            names = sorted(words.record.failed)
            return f"generation {number} waits: its rollout is halted, since {_listed(names)} failed"
        if status.reason:
            return f"generation {number} waits: {status.reason}"
        on_it = [name for name, turn in words.turns.items() if turn.group == group]
        if not on_it:
            return f"generation {number} waits for its turn"
        return f"generation {number} waits for its turn: {_listed(on_it)} {'is' if len(on_it) == 1 else 'are'} on it"

    def _count(self, words: Words) -> RolloutStatus | None:
        current, record = self._publisher.current, words.record
        if current is None:
            return None
        names = [name for group in self._acknowledgements.groups.values() for name in group]
        through = sum(self._turns.has(current, name) for name in names)
        on_it = sorted(name for name, turn in words.turns.items() if not turn.ended)
        failed = [*_failed(words)]
        behind = len(names) - through
        is_idle = record.whole and not words.turns and not behind
        waiting = sum(
            not self._turns.has(current, name) and name not in words.turns and record.failure_of(name) is None
            for name in names
        )
        return RolloutStatus(
            state="idle" if is_idle else record.phase,
            generation=current.text,
            before=None if record.before == Version("", 0) else str(record.before),
            through=through,
            of=len(names),
            in_transition=len(on_it),
            waiting=waiting,
            on_it=tuple(on_it[:NAMED]),
            failed=tuple(failed[:MAX_NAMES]),
            since=rfc3339(record.since_ms // 1000) if record.since_ms else None,
            reason="" if is_idle and not record.paused else _reason(words),
            reverts=record.reverts,
        )


def _lonely(fleet: Fleet | None) -> str:
    """That a group waits until more of its nodes are present; `""` when none does."""
    if fleet is None or fleet.present is None:
        return ""
    return next(filter(None, (_few(fleet, group) for group in fleet.groups)), "")


def _few(fleet: Fleet, group: str) -> str:
    of = len(fleet.members(group))
    present = max((others_present(fleet, group, name) for name in fleet.members(group)), default=0)
    need = needed_beside(of)
    if present >= need:
        return ""
    return (
        f"{need} other nodes of the {of} in group {group} must have been heard of within {PRESENCE:g} s before one changes,"
        f" and {present} have"
    )


def _reason(words: Words) -> str:
    record = words.record
    if record.reverting:
        return f"it is taken back to generation {record.reverting}"
    match record.phase:
        case "halted":
            return failures(record.failed)
        case "paused":
            return "an operator has paused it (cfgsync rollout resume)"
        case "canary":
            return "its first nodes are through, and it waits for cfgsync rollout resume"
    return ""


def _failed(words: Words) -> Iterator[FailedNode]:
    for found, is_behind in ((words.record.failed, False), (words.record.left_behind, True)):
        for name, one in sorted(found.items()):
            yield FailedNode(
                name,
                plain(one.reason, MAX_REASON),
                str(one.generation),
                is_behind,
                plain(one.words, MAX_REASON),
                one.again,
            )


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(sorted(names)[:NAMED]) + (f" and {more} more" if more > 0 else "")
