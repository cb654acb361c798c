"""Interleaved turns, the best of several: two equal servers differ by up to 17 % in one turn."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from .jobs import Job, Result, run


class Best(msgspec.Struct):
    """The best turn of each measure, a request: `processor` is the server's user and system time, in seconds."""

    processor: float
    seconds: float
    turns: list[tuple[float, float]] = []

    @property
    def per_second(self) -> float:
        return 1 / self.seconds


def interleaved(turns: int, jobs: dict[str, Callable[[int], Job]]) -> dict[str, Best]:
    """Run `jobs[name](turn)` of every name, turn by turn."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for turn in range(turns):
        for name, job in jobs.items():
            asked = job(turn)
            result: Result = run(asked)
            taken[name].append((result.processor / asked.count, result.seconds / asked.count))
    return {
        name: Best(min(t[0] for t in all_), min(t[1] for t in all_), all_) for name, all_ in taken.items()
    }
