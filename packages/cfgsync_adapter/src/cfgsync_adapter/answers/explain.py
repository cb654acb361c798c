"""Why it is not ready: one sentence, and its parts as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from cfgsync_core import (
    CfgsyncError,
    Condition,
    MaterializationFailed,
    Missing,
    NotReady,
    Ready,
    Resolution,
    State,
    plain,
)

from ..generations.generation import Generation
from ..nodes.acknowledgements import Acknowledged
from ..runs.runner import Runner

PENDING = "materializing"
SUPERSEDED = "another server has claimed with another revision; this one serves, and publishes nothing"
NAMES_SHOWN = 8

WhenSeen = Callable[[str], str]
"""An identifier → `never seen`, `last seen 40 s ago`."""


class Why(msgspec.Struct, frozen=True):
    """Where a node, or the fleet, stands. `because` are the words of whoever is the cause, without ours around them."""

    state: State
    sentence: str
    because: str = ""
    conditions: tuple[Condition, ...] = ()


def fleet(runs: Runner, registered: int, when: WhenSeen) -> tuple[str, tuple[Condition, ...]]:
    """What the newest run said, and its conditions; `""` when a generation covers everybody."""
    if runs.superseded:
        return SUPERSEDED, ()
    if not runs.source.registrations.revision:
        return "nobody has registered", ()
    verdict = runs.verdict
    if not registered:
        return "nobody is registered any more", ()
    if verdict is None:
        return PENDING, ()
    if isinstance(verdict.outcome, NotReady):
        return waited_for(verdict.outcome, when), verdict.outcome.conditions
    if isinstance(verdict.outcome, CfgsyncError):
        return plain(str(verdict.outcome)), ()
    if runs.is_frozen and not verdict.source.covers(runs.source):
        return f"generation {verdict.outcome.number} is frozen; who registered later is refused", ()
    return ("", ()) if verdict.source.covers(runs.source) else (PENDING, ())


def waited_for(answer: NotReady, when: WhenSeen) -> str:
    """`quorum 3 of 5, missing node-4 (never seen) and node-5 (last seen 40 s ago)`; the materializer's own reason where
    no condition names anybody."""
    if not any(condition.missing for condition in answer.conditions):
        return plain(answer.reason)
    words = "; ".join(_condition(condition, when) for condition in answer.conditions)
    reason, first = plain(answer.reason), answer.conditions[0]
    if reason.startswith(f"{first.have} of {first.need} "):  # Quorum's words: the numbers are said already
        reason = reason.partition("; ")[2]
        return f"{words}; {reason}" if reason else words
    return f"{words}; the materializer says: {reason}" if reason else words


def _condition(condition: Condition, when: WhenSeen) -> str:
    named = [f"{plain(name, 128)} ({when(name)})" for name in condition.missing[:NAMES_SHOWN]]
    if more := len(condition.missing) - len(named):
        named.append(f"{more} more")
    missing = f", missing {_listed(named)}" if named else ""
    return f"{plain(condition.name, 128)} {condition.have} of {condition.need}{missing}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def node(
    identifier: str,
    runs: Runner,
    answer: Resolution | None,
    served: str | None,
    said: Acknowledged,
    applied: str | None,
    when: WhenSeen,
) -> Why:
    """Where one node stands. `answer` is what it would be answered now, None while that is still to be decided;
    `applied` the newest generation that it is known to have."""
    if isinstance(answer, NotReady):
        return Why("not_registered", f"{identifier} is not registered")
    if isinstance(answer, Missing):
        return Why("no_files", answer.reason or "the materializer gave it no files")
    if isinstance(answer, Ready):
        return _answered(answer, served, said, applied)
    outcome = None if runs.verdict is None else runs.verdict.outcome
    if isinstance(outcome, NotReady):
        named = any(condition.missing for condition in outcome.conditions)
        words = waited_for(outcome, when)
        sentence = f"registered; {words}" if named else f"registered; the materializer says: {words}"
        return Why("not_ready", sentence, plain(outcome.reason), outcome.conditions)
    if isinstance(outcome, CfgsyncError):
        cause = outcome.cause if isinstance(outcome, MaterializationFailed) else str(outcome)
        return Why("failed", f"registered; {plain(str(outcome))}", plain(cause))
    superseded = isinstance(outcome, Generation | None) and runs.superseded
    return Why("not_ready", SUPERSEDED if superseded else f"registered; {PENDING}")


def _answered(answer: Ready, served: str | None, said: Acknowledged, applied: str | None) -> Why:
    now = answer.generation
    if said.has(answer.payload.digest):
        return Why("applied", f"applied {_number(now)}")
    was = f", applied {_number(applied)}" if applied is not None else ", nothing applied yet"
    ready = f"generation {_number(now)} is ready for it"
    if said.failure is not None:
        because = plain(said.failure.reason or "no reason given", 1_000)
        failed = _number(said.failure.generation)
        words = because if failed == _number(now) else f"generation {failed}: {because}"
        came = ready if served is None else f"served {_number(served)}"
        if applied == said.failure.generation:  # what it had once is what it refuses now
            was = f", not applied {failed} again"
        return Why("not_applied", f"{came}{was} because it failed: {words}", because)
    if served != now:
        return Why("ready", ready if applied is None else f"{ready}{was} because it has not come for it")
    if applied is None:
        return Why("served", f"served {_number(served)}")
    return Why(
        "served", f"served {_number(served)}{was} because it has not acknowledged {_number(served)} yet"
    )


def replaced(is_wanted: bool, is_served: bool, runs: Runner) -> str:
    """What becomes of a node's replacement; `""` when it has and had none."""
    if is_served and is_wanted and runs.verdict is not None and runs.verdict.source.covers(runs.source):
        return "its own files are an operator's (cfgsync node replace)"
    if not is_served and not is_wanted:
        return ""
    what = "an operator's replacement of its files" if is_wanted else "the end of an operator's replacement"
    return f"{what} waits for {'cfgsync generation renew' if runs.is_frozen else 'the next generation'}"


def _number(generation: str | None) -> str:
    """The number of a generation; its epoch is 36 characters that say nothing to a person."""
    return generation.rpartition(".")[2] if generation else "nothing"
