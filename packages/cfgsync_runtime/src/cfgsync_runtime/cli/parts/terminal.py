"""What a stream can show: whether it is a live terminal, its size, and whether it has colours.

A line that is written over, a screen that is drawn again and a colour are for terminals only: a pipe, a file and a
terminal that calls itself dumb get plain lines. `NO_COLOR`, set to anything, takes the colours away (no-color.org).
"""

from __future__ import annotations

import os
from typing import TextIO

COLUMNS, ROWS = 80, 24
"""The size of a stream that is no terminal."""


def is_live(stream: TextIO) -> bool:
    """Whether it is a terminal that can write over what it shows."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def has_colours(stream: TextIO) -> bool:
    return is_live(stream) and not os.environ.get("NO_COLOR")


def size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines, as they are now: the user may resize a window."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return COLUMNS, ROWS
    return found.columns or COLUMNS, found.lines or ROWS


def cells(text: str) -> int:
    """How many columns `text` takes: a Chinese character is two, an accent that joins its letter none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # not for a node's name

    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text)


def fitted(text: str, width: int) -> str:
    """`text` in at most `width` columns; a cut is marked with `…`."""
    if cells(text) <= width:
        return text
    shown = text[: max(width - 1, 0)]
    while shown and cells(shown) > width - 1:
        shown = shown[:-1]
    return shown + "…"[:width]


def filled(text: str, width: int) -> str:
    """`text` in exactly `width` columns."""
    shown = fitted(text, width)
    return shown + " " * (width - cells(shown))
