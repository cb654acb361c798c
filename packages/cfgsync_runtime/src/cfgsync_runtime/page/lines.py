"""Two texts as the lines that differ, within a bound of work: comparing is quadratic, and texts are somebody else's."""

from __future__ import annotations

from difflib import unified_diff
from itertools import islice
from typing import Final

from .markup import Markup, el

COMPARED_LINES: Final = 400
"""A longer text is not compared."""
SHOWN_LINES: Final = 120
PAGE_LINES: Final = 3_000
"""What all comparisons of one view may look at."""
CUT: Final = 400
"""Characters of a line that are shown."""


class LineBudget:
    """Lines that one view may still compare."""

    def __init__(self, left: int = PAGE_LINES) -> None:
        self._left = left

    def take(self, count: int) -> bool:
        """False when they are too many."""
        if count > min(self._left, 2 * COMPARED_LINES):
            return False
        self._left -= count
        return True


def difference(before: str | None, after: str | None, budget: LineBudget) -> list[Markup] | None:
    """The lines that differ, with two around them; None for what is not compared (no text, or too long)."""
    if before is None or after is None:
        return None
    old, new = before.splitlines(), after.splitlines()
    if not budget.take(len(old) + len(new)):
        return None
    found = list(islice(unified_diff(old, new, n=2, lineterm=""), 2, 2 + SHOWN_LINES + 1))
    shown = [_line(line) for line in found[:SHOWN_LINES]]
    if len(found) > SHOWN_LINES:
        shown.append(el("span", "… and more lines", class_="hunk"))
    elif not found:
        shown.append(el("span", "the lines are the same; their ends are not", class_="hunk"))
    return shown


def _line(line: str) -> Markup:
    cut = line if len(line) <= CUT else line[:CUT] + "…"
    match line[:1]:
        case "+":
            return el("ins", cut)
        case "-":
            return el("del", cut)
        case "@":
            return el("span", cut, class_="hunk")
    return el("span", cut)
