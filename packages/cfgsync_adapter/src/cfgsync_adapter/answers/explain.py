"""Why the fleet or a node is in its state: a sentence for people, and its parts as data for programs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from itertools import islice

import msgspec

from cfgsync_core import CfgsyncError, Condition, MaterializationFailed, Missing, NotReady, Ready, Resolution
from cfgsync_core.text import plain
from cfgsync_core.wire import (
    MATERIALIZING,
    MAX_NAMES,
    MAX_REASON,
    State,
    describe,
    generation_number,
    node_state,
)

from ..generations.generation import Generation
from ..nodes.acknowledgements import Acknowledged
from ..runs.runner import Runner

SUPERSEDED = (
    "another server has claimed with another revision; this one serves what it has and publishes nothing"
)
NAMES_SHOWN = 8
MAX_COMPARED = 200  # names: the event loop compares them

WhenSeen = Callable[[str], str]
"""An identifier → `never seen`, `last seen 40 s ago`."""


class NodeReason(msgspec.Struct, frozen=True):
    """The state of a node and the reason for it. `because` is the text of the cause alone."""

    state: State
    sentence: str
    because: str = ""
    conditions: tuple[Condition, ...] = ()


class FleetReason(msgspec.Struct, frozen=True):
    """Why no generation covers all registrations; `""` when one does. `is_pending`: a run is under way or due.
    `is_held_back`: the generation is frozen, and something has changed since."""

    sentence: str
    conditions: tuple[Condition, ...] = ()
    is_pending: bool = False
    is_held_back: bool = False


def fleet(runs: Runner, registered: int, when: WhenSeen) -> FleetReason:
    """The state of the newest run as a reason, with its conditions."""
    if runs.superseded:
        return FleetReason(SUPERSEDED)
    if not registered:
        was = runs.source.registrations.revision
        nobody = "no node is registered any more" if was else "no node has registered"
        expected = Condition("quorum", 0, len(runs.expected), tuple(runs.expected[:MAX_NAMES]))
        if not runs.expected:
            return FleetReason(nobody)
        return FleetReason(f"{nobody}; {_condition(expected, when)}", (expected,))
    if runs.is_frozen:
        held_back = runs.held_back.in_fleet(runs.source)
        return FleetReason(held_back, is_held_back=bool(held_back))
    verdict = runs.verdict
    if verdict is not None:
        outcome = verdict.outcome
        if isinstance(outcome, NotReady):
            return FleetReason(waited_for(outcome, when), outcome.conditions)
        if isinstance(outcome, CfgsyncError):
            return FleetReason(plain(str(outcome)))
        if verdict.source.covers(runs.source):
            return FleetReason("")
    return FleetReason(MATERIALIZING, is_pending=True)


def for_nobody(current: Generation | None, registered: Collection[str]) -> str:
    """A warning when a generation has files for none of the nodes that are registered; `""` otherwise."""
    if current is None or not registered or any(name in registered for name in current.nodes):
        return ""
    return (
        f"generation {current.number} has files for none of the registered nodes: it names"
        f" {_first_of(current.nodes) or 'no node'}, and registered {_are(registered)} {_first_of(registered)};"
        " is a name misspelt?"
    )


def for_strangers(current: Generation, registered: Collection[str]) -> str:
    """A warning when a generation names nodes that are not registered and leaves out some that are; `""` otherwise."""
    words = strangers(current.nodes, registered)
    return f"generation {current.number} has {words}" if words else ""


def strangers(nodes: Collection[str], registered: Collection[str]) -> str:
    """`files for db_2, which is not registered, and none for db-2; is a name misspelt?`, `""` unless both sides exist."""
    unknown = [name for name in nodes if name not in registered]
    without = [name for name in registered if name not in nodes] if unknown else []
    if not without:
        return ""
    return (
        f"files for {_first_of(unknown)}, which {_are(unknown)} not registered, and none for {_first_of(without)};"
        " is a name misspelt?"
    )


def misspelt(identifier: str, current: Generation, registered: Collection[str]) -> str:
    """A note on a node without files when a similar name, which is not registered, has some, or only such names have;
    `""` otherwise."""
    unknown = islice((name for name in current.nodes if name not in registered), MAX_COMPARED)
    similar = get_close_matches(identifier, unknown, n=1)
    names = similar or ([] if any(name in registered for name in current.nodes) else current.nodes)
    if not names:
        return ""
    return f"it gave files to {_first_of(names)}, which {_are(names)} not registered; is a name misspelt?"


def _are(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _first_of(names: Collection[str]) -> str:
    shown = sorted(names)[:NAMES_SHOWN]
    more = len(names) - len(shown)
    return _listed([*shown, f"{more} more"] if more else shown)


def waited_for(answer: NotReady, when: WhenSeen) -> str:
    """`quorum 3 of 5, missing node-4 (never seen) and node-5 (last seen 40 s ago)`, then the reason of the materializer if
    it adds something; that reason alone when no condition names a node."""
    reason = plain(answer.reason)
    if not any(condition.missing for condition in answer.conditions):
        return reason
    words = "; ".join(_condition(condition, when) for condition in answer.conditions)
    if not reason or reason == describe("", answer.conditions):
        return words
    return f"{words}; the materializer says: {reason}"


def _condition(condition: Condition, when: WhenSeen) -> str:
    named = [f"{plain(name, 128)} ({when(name)})" for name in condition.missing[:NAMES_SHOWN]]
    if more := len(condition.missing) - len(named):
        named.append(f"{more} more")
    missing = f", missing {_listed(named)}" if named else ""
    note = f"; {plain(condition.note)}" if condition.note else ""
    return f"{plain(condition.name, 128)} {condition.have} of {condition.need}{missing}{note}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def decided(
    answer: Resolution | None, runs: Runner, identifier: str = ""
) -> Resolution | CfgsyncError | None:
    """What a node would be answered now. `answer` None: the newest run decides it; None while it is under way."""
    if answer is None and runs.reverts:
        return NotReady(runs.held_back.why(identifier))
    outcome = None if runs.verdict is None else runs.verdict.outcome
    return outcome if answer is None and not isinstance(outcome, Generation) else answer


def node(
    identifier: str,
    runs: Runner,
    answer: Resolution | None,
    served: str | None,
    last: Acknowledged,
    applied: str | None,
    when: WhenSeen,
) -> NodeReason:
    """The state of one node, and why. `answer` is what it would be answered now, None when the newest run decides that;
    `served` the last generation that it was sent, `applied` the newest one that it is known to have."""
    if isinstance(answer, Ready):
        return _with_files(answer, served, last, applied)
    now = decided(answer, runs, identifier)
    state = node_state(now)
    match now:
        case NotReady(registered=False):
            return NodeReason(state, f"{identifier} is not registered")
        case Missing():
            return NodeReason(state, now.reason or "the materializer gave it no files")
        case NotReady():
            words = waited_for(now, when)
            is_own = answer is None and runs.reverts  # these words are cfgsync's own
            named = is_own or any(condition.missing for condition in now.conditions)
            sentence = f"registered; {words}" if named else f"registered; the materializer says: {words}"
            return NodeReason(state, sentence, plain(now.reason), now.conditions)
        case CfgsyncError():
            cause = now.told if isinstance(now, MaterializationFailed) else str(now)
            return NodeReason(state, f"registered; {plain(str(now))}", plain(cause))
    return NodeReason(state, SUPERSEDED if runs.superseded else f"registered; {MATERIALIZING}")


def _with_files(answer: Ready, served: str | None, last: Acknowledged, applied: str | None) -> NodeReason:
    """A node to which the current generation gives files."""
    now = answer.generation
    has_applied = last.has(answer.payload.digest)
    failure = None if has_applied else last.failure
    state = node_state(
        answer, has_failed=failure is not None, has_applied=has_applied, was_served=served == now
    )
    before = (
        "nothing is applied yet" if applied is None else f"generation {generation_number(applied)} is applied"
    )
    if failure is not None:
        because = plain(failure.reason or "no reason given", MAX_REASON)
        if applied == failure.generation:  # the node refuses what it had before
            before = "it had applied it before"
        return NodeReason(
            state,
            f"could not apply generation {generation_number(failure.generation)}: {because}; {before}",
            because,
        )
    match state:
        case "applied":
            return NodeReason(state, f"applied generation {generation_number(now)}")
        case "served":
            sentence = f"served generation {generation_number(now)}, which it has not acknowledged yet"
        case _:
            sentence = f"generation {generation_number(now)} is ready, and it has not asked for it yet"
    return NodeReason(state, sentence if applied is None else f"{sentence}; {before}")


def replaced(is_wanted: bool, is_served: bool, is_newest: bool, runs: Runner) -> str:
    """The state of a node's replacement; `""` when it has no replacement and its generation had none. `is_newest`: the
    generation was made with the replacements of now."""
    if is_served and is_wanted and is_newest:
        return "its own files are an operator's (cfgsync node replace)"
    if not is_served and not is_wanted:
        return ""
    what = "an operator's replacement of its files" if is_wanted else "the end of an operator's replacement"
    return f"{what} waits for {'cfgsync generation rebuild' if runs.is_frozen else 'the next generation'}"
