"""Who is given a turn, and what a node is answered. A node that runs on files keeps them until its turn; one that has none
gets the newest at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import msgspec

from cfgsync_core import NEVER

from .policy import Rollout
from .settlement import replaced
from .words import Asking, Fleet, GivenTurn, Target, Words

PRESENCE: Final = 60.0
"""Seconds. Nodes that were heard of within them are present."""

LET_PASS: Final = 60.0
"""Seconds after which a steady question of a node that has a turn says that it let the turn pass. A question that was on
its way when the turn was given says nothing."""

Answer: TypeAlias = Literal["files", "unchanged", "kept"]
"""`files`: 200. `unchanged`: 304 with the generation, the node has these files. `kept`: 304 without it, not its turn."""


def answer(words: Words, target: Target, policy: Rollout, asking: Asking) -> Answer:
    """What a node that the current generation holds is answered, in the order of the table in rollout.md."""
    record = words.record
    if asking.known is None:
        return "files"
    has_refused = asking.turn is not None and asking.turn.mark == "refused"
    if asking.known == asking.digest and not has_refused:
        return "unchanged"
    turn = words.turns.get(asking.identifier)
    if turn is not None and (turn.ended or turn.digest != asking.digest or not _may_have(words, asking)):
        turn = None
    is_for_everybody = (target.at_once or record.promoted) and not record.reverting
    if asking.known == asking.digest:
        # one that has refused these files tries them again only when an operator lets it
        failure = record.failure_of(asking.identifier)
        last = failure if is_for_everybody else turn
        return "files" if last is not None and last.again else "unchanged"
    if policy.mode == "all" or is_for_everybody:
        return "files"
    if asking.turn is not None and turn is not None:
        return "files"
    if asking.turn is not None and not asking.starts:
        return "kept"
    return "files" if record.phase == "rolling" else "kept"


def granted(words: Words, fleet: Fleet, policy: Rollout, asking: Iterable[Asking]) -> Words:
    """As many turns as may be given now to the nodes that are asking: failed ones first, then those farthest behind."""
    record = words.record
    if record.phase not in ("rolling", "halted") or record.paused or record.reverting:
        return words
    if policy.mode == "all" or fleet.target.at_once or record.promoted:
        return words
    turns, failed, behind = dict(words.turns), dict(record.failed), dict(record.left_behind)
    out = Counter(turn.group for turn in turns.values())
    on_trial = Counter(turn.group for turn in turns.values() if not turn.ended)
    late = Counter(turn.group for turn in turns.values() if turn.ended == "late")
    through = sum(record.through.values())

    def age(one: Asking) -> tuple[bool, object, str]:
        applied = fleet.spoken(one.identifier).applied
        return (
            record.failure_of(one.identifier) is None,
            NEVER if applied is None else applied,
            one.identifier,
        )

    for one in sorted((one for one in asking if _wants(words, fleet, one)), key=age):
        name, own = one.identifier, turns.get(one.identifier)
        assert one.turn is not None  # `_wants`
        group = one.turn.group
        mine = own if own is not None and own.group == group else None
        has_failed = record.failure_of(name) is not None
        # those that failed do not wait for each other: two that hold the last places would wait for ever
        taken = on_trial[group] + late[group] if has_failed else out[group]
        if mine is not None and not (has_failed and mine.ended == "failed"):
            taken -= 1
        if taken >= policy.places(fleet.count(group, name)):
            continue
        others_on_trial = on_trial[group] - (mine is not None and not mine.ended)
        if not record.reverts and others_on_trial >= max(1, record.through.get(group, 0)):
            continue
        others = sum(on_trial.values()) - (own is not None and not own.ended)
        if not has_failed and _is_canary(words, policy) and through + others >= policy.canary:
            continue
        if others_present(fleet, group, name) < needed_beside(fleet.count(group, name)):
            continue
        if own is not None:
            out[own.group] -= 1
            on_trial[own.group] -= not own.ended
            late[own.group] -= own.ended == "late"
        failure = record.failure_of(name)
        again = failure is not None and failure.again
        turns[name] = GivenTurn(
            record.generation, group, one.digest, fleet.spoken(name).revision, again=again
        )
        out[group] += 1
        on_trial[group] += 1
        for failures in (failed, behind):
            if (failure := failures.get(name)) is not None and failure.again:
                failures[name] = msgspec.structs.replace(failure, again=False)
    return Words(replaced(record, failed=failed, left_behind=behind), turns)


def needed_beside(nodes: int) -> int:
    """How many others of a group of so many must be present when one of it changes: a majority, or all others of a group of
    two or three."""
    return min(nodes // 2 + 1, nodes - 1)


def others_present(fleet: Fleet, group: str, identifier: str) -> int:
    """How many other nodes of the group are present; all of them when that cannot be known."""
    if fleet.present is None:
        return fleet.count(group, identifier) - 1
    is_counted = identifier in fleet.members(group) and fleet.is_present(identifier)
    return fleet.present.get(group, 0) - is_counted


def _wants(words: Words, fleet: Fleet, asking: Asking) -> bool:
    """It takes turns, is not up to date, is not in the middle of a trial, and may have these files."""
    turn = words.turns.get(asking.identifier)
    if asking.turn is None or asking.starts or asking.known is None:
        return False
    if turn is not None and not turn.ended and turn.digest == asking.digest:
        return False  # it has this turn
    failure = words.record.failure_of(asking.identifier)
    has_failed = failure is not None or fleet.spoken(asking.identifier).failed_digest == asking.known
    if asking.turn.mark == "trial" and not (has_failed if turn is None else turn.ended):
        return False  # trials end first; one whose program could not be told has failed, and has no end
    if words.record.halted and failure is None:
        return False
    again = failure is not None and failure.again and asking.turn.mark == "refused"
    if asking.known == asking.digest and not again:
        return False
    return _may_have(words, asking)


def _may_have(words: Words, asking: Asking) -> bool:
    """These files have not failed on this node, and while it is halted, on nobody."""
    record = words.record
    if record.reverting:
        return False
    failure = record.failure_of(asking.identifier)
    if failure is not None and asking.digest in failure.digests:
        return False
    if not record.halted:
        return True
    return not any(
        asking.digest in one.digests for one in (*record.failed.values(), *record.left_behind.values())
    )


def _is_canary(words: Words, policy: Rollout) -> bool:
    record = words.record
    return bool(policy.canary) and not (record.past_canary or record.reverts or record.whole)
