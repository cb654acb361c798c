"""The outcomes of the runs: counts since the start, and log lines."""

from __future__ import annotations

import logging
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from cfgsync_core import CfgsyncError, MaterializationFailed, NotReady
from cfgsync_core.log_events import event
from cfgsync_core.text import plain

from ..generations.generation import Generation

log = logging.getLogger("cfgsync")

RunOutcome: TypeAlias = Literal["generation", "not_ready", "failed", "refused", "not_committed", "outdated"]
"""`refused` by the shrink guard; `not_committed`: the store did not accept it; `outdated`: the registrations changed."""

OUTCOMES: Final[tuple[RunOutcome, ...]] = get_args(RunOutcome)


class RunCounts(msgspec.Struct):
    """`runs` by outcome; the total `seconds` from the start of each run to its verdict, the commit included, and those of
    the last run; the total `processor_seconds` of the materializer."""

    runs: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    seconds: float = 0.0
    processor_seconds: float = 0.0
    last_seconds: float = 0.0

    def add(self, outcome: RunOutcome, seconds: float) -> None:
        """A run has ended."""
        self.runs[outcome] += 1
        self.seconds += seconds
        self.last_seconds = seconds


class RunLog:
    """Logs each run: a new generation and a new reason at info, every failure as a warning, all else at debug."""

    def __init__(self, current: Generation | None) -> None:
        self._generation = "" if current is None else current.text
        self._reason = ""

    def log(
        self, run: int, outcome: RunOutcome, said: Generation | NotReady | CfgsyncError | None, seconds: float
    ) -> None:
        before = self._generation, self._reason
        facts: dict[str, str | int] = {}
        match said:
            case Generation():
                self._generation, self._reason = said.text, ""
                message = f"published generation {said.number} ({len(said.nodes)} nodes)"
                revision = said.source.registrations.revision
                facts = {
                    "generation": said.text,
                    "nodes": len(said.nodes),
                    "registrations_revision": revision,
                }
            case NotReady():
                self._reason = plain(said.reason)
                message, facts = f"not ready: {self._reason}", {"reason": self._reason}
            case MaterializationFailed():
                self._reason, at = plain(said.cause), plain(said.at)
                message = f"the materializer failed: {self._reason}{f' ({at})' if at else ''}"
                facts = {"reason": self._reason, "at": at}
            case CfgsyncError():
                self._reason = plain(str(said))
                message = f"a generation could not be committed: {self._reason}"
                facts = {"reason": self._reason, "at": ""}
            case None:
                message = "the registrations changed during a run, which is repeated"
        is_new = before != (self._generation, self._reason)
        level = logging.INFO if is_new else logging.DEBUG
        if isinstance(said, CfgsyncError):
            level = logging.WARNING
        log.log(
            level,
            "%s",
            message,
            extra=event("run", run=run, outcome=outcome, seconds=round(seconds, 6), **facts),
        )
