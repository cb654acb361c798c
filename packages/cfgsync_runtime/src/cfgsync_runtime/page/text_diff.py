"""The lines in which two texts differ, up to a limit: comparing takes quadratic time, and the texts may be hostile."""

from __future__ import annotations

from difflib import unified_diff
from itertools import islice
from typing import Final

from .markup import Markup, el

COMPARED_LINES: Final = 400
"""A longer text is not compared."""
SHOWN_LINES: Final = 120
PAGE_LINES: Final = 3_000
"""Lines that one view compares at most."""
CUT: Final = 400
"""Characters of a line that are shown."""


class LineBudget:
    """The lines that one view may still compare."""

    def __init__(self, left: int = PAGE_LINES) -> None:
        self._left = left

    def take(self, count: int) -> bool:
        """False when `count` is too many."""
        if count > min(self._left, 2 * COMPARED_LINES):
            return False
        self._left -= count
        return True


def text_diff(before: str | None, after: str | None, budget: LineBudget) -> list[Markup] | None:
    """The lines that differ, with two lines around them; None when a text is absent or too long to compare."""
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
        shown.append(el("span", "the lines are the same; their line ends differ", class_="hunk"))
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
