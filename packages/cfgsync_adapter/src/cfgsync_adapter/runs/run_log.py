"""What the runs came to: plain numbers since the start, and a line of the log for each outcome that says something new."""

from __future__ import annotations

import logging
from typing import Final, Literal, TypeAlias

from cfgsync_core import CfgsyncError, MaterializationFailed, NotReady
from cfgsync_core.log_events import event
from cfgsync_core.text import plain

from ..generations.generation import Generation

log = logging.getLogger("cfgsync")

RunOutcome: TypeAlias = Literal["generation", "not_ready", "failed", "refused", "not_committed", "outdated"]
"""`refused` by the shrink guard; `not_committed`: the store did not take it; `outdated`: the registrations moved on."""

OUTCOMES: Final[tuple[RunOutcome, ...]] = (
    "generation",
    "not_ready",
    "failed",
    "refused",
    "not_committed",
    "outdated",
)


class RunCounts:
    """`runs` by outcome; `seconds` from the start of a run to its verdict, the commit included, and the
    `processor_seconds` of the materializer: in total, and `last_seconds` of the last run."""

    __slots__ = ("last_seconds", "processor_seconds", "runs", "seconds")

    def __init__(self) -> None:
        self.runs: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self.seconds = 0.0
        self.processor_seconds = 0.0
        self.last_seconds = 0.0

    def add(self, outcome: RunOutcome, seconds: float) -> None:
        """A run has ended."""
        self.runs[outcome] += 1
        self.seconds += seconds
        self.last_seconds = seconds


class RunLog:
    """Logs what became of run number `run`: a new generation and a new reason at info, a failure each time as a warning
    (runs back off), all else at debug."""

    def __init__(self, current: Generation | None) -> None:
        self._generation = "" if current is None else current.text
        self._reason = ""

    def log(
        self, run: int, outcome: RunOutcome, said: Generation | NotReady | CfgsyncError | None, seconds: float
    ) -> None:
        spent = round(seconds, 6)
        match said:
            case Generation():
                news = said.text != self._generation or bool(self._reason)
                self._generation, self._reason = said.text, ""
                log.log(
                    logging.INFO if news else logging.DEBUG,
                    "published generation %d (%d nodes)",
                    said.number,
                    len(said.nodes),
                    extra=event(
                        "run",
                        run=run,
                        outcome=outcome,
                        seconds=spent,
                        generation=said.text,
                        nodes=len(said.nodes),
                        registrations_revision=said.source.registrations.revision,
                    ),
                )
            case NotReady():
                reason = plain(said.reason)
                news, self._reason = reason != self._reason, reason
                log.log(
                    logging.INFO if news else logging.DEBUG,
                    "not ready: %s",
                    reason,
                    extra=event("run", run=run, outcome=outcome, seconds=spent, reason=reason),
                )
            case CfgsyncError():
                failed = isinstance(said, MaterializationFailed)
                self._reason = plain(said.cause if isinstance(said, MaterializationFailed) else str(said))
                at = plain(said.at) if isinstance(said, MaterializationFailed) else ""
                log.warning(
                    "the materializer failed: %s%s"
                    if failed
                    else "a generation could not be committed: %s%s",
                    self._reason,
                    f" ({at})" if at else "",
                    extra=event("run", run=run, outcome=outcome, seconds=spent, reason=self._reason, at=at),
                )
            case None:
                log.debug(
                    "the registrations changed during a run, which is repeated",
                    extra=event("run", run=run, outcome=outcome, seconds=spent),
                )
