"""What the runs came to since the start, as plain numbers that somebody may read at any time."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

RunOutcome: TypeAlias = Literal["generation", "not_ready", "failed", "refused", "not_committed", "outdated"]
"""`refused` by the shrink guard; `not_committed`: the store did not take it; `outdated`: another source stands by now."""

OUTCOMES: Final[tuple[RunOutcome, ...]] = (
    "generation",
    "not_ready",
    "failed",
    "refused",
    "not_committed",
    "outdated",
)


class RunCounts:
    """`runs` by outcome; `seconds` from the start of a run to its verdict, committed and all, and `processor_seconds`
    that the materializer took: in total, and `last_seconds` of the last one."""

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
