"""How a turn ends, and what follows: through, failed, halted, all done. A function of durable words, so any server may
commit it, and twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from cfgsync_core import NEVER, Version

from .policy import Rollout
from .words import Failed, Fleet, Record, Spoken, Target, Words


def begun(words: Words, target: Target) -> Words:
    """The words for the current generation. A new one begins its canary and its slow start anew; a pause, a halt, the failed
    nodes and the turns that are out stay. One that takes a change back resumes: nothing stops it."""
    record = words.record
    if target.generation <= record.generation:
        return words
    new = Record(
        generation=target.generation,
        before=record.generation if record.whole else record.before,
        failed=record.failed,
        left_behind=record.left_behind,
        halted=record.halted,
        paused=record.paused,
        reverting=record.reverting,
        reverts=target.reverts,
        since_ms=record.since_ms,
        steps=record.steps,
    )
    begins = Words(new, words.turns)
    return freed(begins, paused=False) if target.reverts else begins


def settled(words: Words, fleet: Fleet, policy: Rollout, well: Collection[str] = ()) -> Words:
    """After everything that nodes have acknowledged. `well` are nodes that say that they run well on what the current
    generation gives them (a steady 304)."""
    record, turns = words.record, dict(words.turns)
    through, failed, behind = dict(record.through), dict(record.failed), dict(record.left_behind)
    for name, turn in words.turns.items():
        spoken = fleet.spoken(name)
        is_news = spoken.revision > turn.after
        if name in well or (is_news and _is_through(spoken, turn.generation)):
            del turns[name]
            if turn.generation == record.generation:
                through[turn.group] = through.get(turn.group, 0) + 1
        elif is_news and turn.ended != "failed" and _has_failed(spoken, turn.generation):
            turns[name] = msgspec.structs.replace(turn, ended="failed")
            failed[name] = _failure(spoken, record.failure_of(name))
            behind.pop(name, None)
    for name in () if record.whole else fleet.failing:  # without a turn: it started with the new files
        spoken, before = fleet.spoken(name), record.failure_of(name)
        is_new = before is None or before.again
        if name not in words.turns and is_new:
            failed[name] = _failure(spoken, None)
            behind.pop(name, None)
    for name, failure in (record.failed | record.left_behind).items():
        if name not in turns and (name in well or _is_through(fleet.spoken(name), failure.generation)):
            failed.pop(name, None)
            behind.pop(name, None)
    after = replaced(record, through=through, failed=failed, left_behind=behind)
    return judged(Words(after, turns), fleet, policy)


def late(words: Words, names: Iterable[str], fleet: Fleet, policy: Rollout, deadline: str) -> Words:
    """These nodes said nothing until the `deadline` (as text) of their turns: they have failed. Marking and halting are one
    step."""
    turns, failed, behind = dict(words.turns), dict(words.record.failed), dict(words.record.left_behind)
    for name in names:
        if (turn := turns.get(name)) is None or turn.ended:
            continue
        turns[name] = msgspec.structs.replace(turn, ended="late")
        before = behind.pop(name, None) or failed.get(name)
        reason = f"no word within {deadline}"
        digests = () if before is None else before.digests
        failed[name] = Failed(turn.generation, reason, digests, late=True)
    return judged(Words(replaced(words.record, failed=failed, left_behind=behind), turns), fleet, policy)


def passed(words: Words, names: Iterable[str]) -> Words:
    """These nodes are steady and let their turns pass: the turns end, and the nodes keep what they have."""
    gone = [name for name in names if name in words.turns and not words.turns[name].ended]
    return without(words, gone)


def without(words: Words, names: Collection[str]) -> Words:
    """These nodes leave: their turns end. One that has failed stays counted, since an expiry ends no halt."""
    return Words(words.record, {name: turn for name, turn in words.turns.items() if name not in names})


def freed(words: Words, **fields: Any) -> Words:
    """Nothing stops the rollout any more: the failed nodes are left behind, named, and the turns that ended badly are
    free. A turn that was just given is not: its node is changing."""
    record = words.record
    turns = {name: turn for name, turn in words.turns.items() if not turn.ended}
    behind = record.left_behind | record.failed
    after = replaced(record, failed={}, left_behind=behind, halted=False, reverting=0, **fields)
    return Words(after, turns)


def judged(words: Words, fleet: Fleet, policy: Rollout) -> Words:
    """Whether it halts now, ends its halt, reaches its canary, or is whole."""
    record = words.record
    is_for_everybody = record.promoted or fleet.target.at_once
    whole = record.whole or is_whole(words, fleet)
    if not record.failed and not record.reverting:
        record = replaced(record, halted=False)
    elif not is_for_everybody and (
        len(record.failed) > policy.failures(fleet.size) or _is_full(words, fleet, policy)
    ):
        record = replaced(record, halted=True)
    if policy.canary and not (record.past_canary or record.reverts or is_for_everybody):
        record = replaced(record, at_canary=sum(record.through.values()) >= policy.canary and not whole)
    return Words(replaced(record, whole=whole), words.turns)


def is_whole(words: Words, fleet: Fleet) -> bool:
    """Everybody that takes turns has what the current generation gives; False when nobody takes turns."""
    record = words.record
    if words.turns or record.failed or record.left_behind or record.reverting or not fleet.size:
        return False
    if record.generation != fleet.target.generation:
        return False
    return all(fleet.has(name) for names in fleet.groups.values() for name in names)


def replaced(record: Record, **fields: Any) -> Record:
    """The record with these fields; the same object when nothing changes."""
    new = msgspec.structs.replace(record, **fields)
    return record if new == record else new


def _has_failed(spoken: Spoken, generation: Version) -> bool:
    return spoken.failed is not None and spoken.failed >= generation


def _is_through(spoken: Spoken, generation: Version) -> bool:
    """A failure that it remembers came after what was applied."""
    return spoken.applied is not None and spoken.applied >= generation and not _has_failed(spoken, generation)


def _failure(spoken: Spoken, before: Failed | None) -> Failed:
    digests = () if before is None else before.digests
    reason = spoken.reason or "no reason given"
    failed = tuple(dict.fromkeys((*digests, spoken.failed_digest)))
    return Failed(spoken.failed or NEVER, reason, failed, spoken.words)


def _is_full(words: Words, fleet: Fleet, policy: Rollout) -> bool:
    """Turns that ended badly take every place of a group: it cannot go on by itself."""
    ended = Counter(turn.group for turn in words.turns.values() if turn.ended)
    return any(count >= policy.places(len(fleet.members(group))) for group, count in ended.items())
