"""The outcomes of the runs: counts since the start, and log lines."""

from __future__ import annotations

import logging
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from cfgsync_core import CfgsyncError, MaterializationFailed, NotReady
from cfgsync_core.log_events import event
from cfgsync_core.text import counted, plain

from ..generations.generation import Generation
from ..generations.shrink_guard import ShrinkRefused

log = logging.getLogger("cfgsync")

RunOutcome: TypeAlias = Literal["generation", "not_ready", "failed", "refused", "not_committed", "outdated"]
"""`refused` by the shrink guard; `not_committed`: the store did not accept it; `outdated`: the registrations changed."""

OUTCOMES: Final[tuple[RunOutcome, ...]] = get_args(RunOutcome)


MAX_TRACED: Final = 100
"""Failures whose traceback is not logged again; one more begins anew."""


class RunLog(msgspec.Struct):
    """Counts and logs the runs: a new generation and a new reason at info, every failure as a warning, all else at debug.

    `runs` by outcome; the total `seconds` from the start of each run to its verdict, the commit included, and those of the
    last run; the total `processor_seconds` of the materializer; the last `generation`, and the `reason` of a run since;
    the failures that were `traced`.
    """

    runs: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    seconds: float = 0.0
    processor_seconds: float = 0.0
    last_seconds: float = 0.0
    generation: str = ""
    reason: str = ""
    traced: set[str] = msgspec.field(default_factory=set)

    def add(self, run: int, result: Generation | NotReady | CfgsyncError | None, seconds: float) -> None:
        """Run number `run` has ended with this result."""
        before = self.generation, self.reason
        facts: dict[str, str | int] = {}
        level = logging.DEBUG
        more: dict[str, object] = {}
        outcome: RunOutcome
        match result:
            case Generation():
                number = f"generation {result.number} ({counted(len(result.nodes), 'node')})"
                kept = result.text == self.generation
                message = f"{number} is unchanged: the files are the same" if kept else f"published {number}"
                outcome, self.generation, self.reason = "generation", result.text, ""
                facts = {"generation": result.text, "nodes": len(result.nodes)}
                facts["registrations_revision"] = result.source.registrations.revision
            case NotReady():
                outcome, self.reason = "not_ready", plain(result.reason)
                message, facts = f"not ready: {self.reason}", {"reason": self.reason}
            case MaterializationFailed():
                outcome = "refused" if isinstance(result, ShrinkRefused) else "failed"
                level, self.reason, at = logging.WARNING, plain(result.cause), plain(result.at)
                message = f"the materializer failed: {self.reason}{f' ({at})' if at else ''}"
                more = self._traceback(result)
                facts = {"reason": self.reason, "at": at}
            case CfgsyncError():
                outcome, level, self.reason = "not_committed", logging.WARNING, plain(str(result))
                message = f"a generation could not be committed: {self.reason}"
                facts = {"reason": self.reason, "at": ""}
            case None:
                outcome, message = "outdated", "the registrations changed during a run, which is repeated"
        if level == logging.DEBUG and before != (self.generation, self.reason):
            level = logging.INFO
        self.runs[outcome] += 1
        self.seconds += seconds
        self.last_seconds = seconds
        more |= event("run", run=run, outcome=outcome, seconds=round(seconds, 6), **facts)
        log.log(level, "%s", message, extra=more)

    def _traceback(self, failure: MaterializationFailed) -> dict[str, object]:
        """The traceback of a failure, as the `extra` of its log line, the first time that one of its type and place is
        logged."""
        distinct = failure.at or failure.trace
        if not failure.trace or distinct in self.traced:
            return {}
        if len(self.traced) == MAX_TRACED:
            self.traced.clear()
        self.traced.add(distinct)
        return {"traceback": failure.trace}
