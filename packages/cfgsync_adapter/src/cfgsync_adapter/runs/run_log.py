"""One line of the log for each outcome of a run that says something new; the same word for the same nodes is no news."""

from __future__ import annotations

import logging

from cfgsync_core import CfgsyncError, MaterializationFailed, NotReady, event, plain

from ..generations.generation import Generation
from .tally import RunOutcome

log = logging.getLogger("cfgsync")


class RunLog:
    """Tells what became of run number `run`: a new generation and a new reason at info, a failure each time as a warning
    (runs back off), all else at debug."""

    def __init__(self, current: Generation | None) -> None:
        self._generation = "" if current is None else current.text
        self._reason = ""

    def tell(
        self, run: int, outcome: RunOutcome, said: Generation | NotReady | CfgsyncError | None, seconds: float
    ) -> None:
        spent = round(seconds, 6)
        match said:
            case Generation():
                news = said.text != self._generation or bool(self._reason)
                self._generation, self._reason = said.text, ""
                log.log(
                    logging.INFO if news else logging.DEBUG,
                    "generation %d stands, for %d nodes",
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
                    "the registrations moved on during a run, which is made again",
                    extra=event("run", run=run, outcome=outcome, seconds=spent),
                )
