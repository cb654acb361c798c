"""Why it is not ready, in one sentence."""

from __future__ import annotations

from cfgsync_core import CfgsyncError, Condition, Missing, NotReady, Ready, Resolution

from .generation import Generation
from .publishing import Publisher
from .runs import Runs

PENDING = "materializing"
SUPERSEDED = "another server has claimed with another revision; this one serves, and publishes nothing"


def fleet(runs: Runs, publisher: Publisher) -> tuple[str, tuple[Condition, ...]]:
    """What the newest run said, and its conditions; `""` when a generation covers everybody."""
    if runs.superseded:
        return SUPERSEDED, ()
    verdict = runs.verdict
    if verdict is None:
        return (PENDING, ()) if runs.source.registrations.revision else ("nobody has registered", ())
    if isinstance(verdict.outcome, NotReady):
        return verdict.outcome.reason, verdict.outcome.conditions
    if isinstance(verdict.outcome, CfgsyncError):
        return str(verdict.outcome), ()
    if runs.is_frozen and not verdict.source.covers(runs.source):
        return f"generation {verdict.outcome.number} is frozen; who registered later is refused", ()
    return ("", ()) if verdict.source.covers(runs.source) else (PENDING, ())


def node(identifier: str, runs: Runs, answer: Resolution | None, served: str | None, superseded: int) -> str:
    """Where one node stands."""
    if isinstance(answer, NotReady):
        text = f"{identifier} is not registered"
    elif isinstance(answer, Missing):
        text = answer.reason or "the materializer gave it no files"
    elif isinstance(answer, Ready):
        text = f"served {served}" if served == answer.generation else f"{answer.generation} is ready for it"
    else:
        text = _pending(runs)
    if superseded:
        text += f"; {superseded} held requests were superseded by newer ones: do two processes use this name?"
    return text


def replaced(is_wanted: bool, is_served: bool, runs: Runs) -> str:
    """What becomes of a node's replacement; `""` when it has and had none."""
    if is_served and is_wanted and runs.verdict is not None and runs.verdict.source.covers(runs.source):
        return "its own files are an operator's (cfgsync node replace)"
    if not is_served and not is_wanted:
        return ""
    what = "an operator's replacement of its files" if is_wanted else "the end of an operator's replacement"
    return f"{what} waits for {'cfgsync generation renew' if runs.is_frozen else 'the next generation'}"


def _pending(runs: Runs) -> str:
    outcome = None if runs.verdict is None else runs.verdict.outcome
    if isinstance(outcome, NotReady):
        return f"registered; the materializer says: {outcome.reason}"
    if isinstance(outcome, CfgsyncError):
        return f"registered; {outcome}"
    if isinstance(outcome, Generation) or outcome is None:
        return SUPERSEDED if runs.superseded else f"registered; {PENDING}"
    return PENDING
