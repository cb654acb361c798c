"""Figures in the words that the table and `results.json` show."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

HEAD = ("figure", "ours", "yardstick", "ratio", "goal", "by the clock")


class Row(msgspec.Struct, omit_defaults=True):
    """One figure. `ratio` is judged against `goal` (`≥` or `≤` in front); `clock` and `more` stand beside it."""

    figure: str
    ours: str
    yardstick: str
    ratio: float | None = None
    goal: str = ""
    clock: str = ""
    more: dict[str, float] = {}

    @property
    def falls_short(self) -> bool:
        if self.ratio is None or not self.goal:
            return False
        bound = float(self.goal[1:].split()[0])
        return self.ratio < bound if self.goal[0] == "≥" else self.ratio > bound


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"


def cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    goal = f"{row.goal} (short)" if row.falls_short else row.goal
    return (row.figure, row.ours, row.yardstick, ratio, goal, row.clock)


def lines(rows: Sequence[Row]) -> list[str]:
    """A Markdown table, padded."""
    filled = [HEAD, *map(cells, rows)]
    widths = [max(len(row[i]) for row in filled) for i in range(len(HEAD))]
    padded = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in filled
    ]
    return [padded[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *padded[1:]]
