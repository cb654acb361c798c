"""How the views say the same things: a generation's number, a time, a kind, a size."""

from __future__ import annotations

from typing import Final

from .markup import Markup, el
from .survey import Kind

EXPLAINED: Final[dict[Kind, str]] = {
    "missing": "awaited, and not registered",
    "registered": "registered, and not asking for its files now",
    "waiting": "its question for files is held",
    "served": "was given its current files",
    "applied": "said that it has applied its current files",
    "failed": "could not apply its files, or can be given none",
}


IN_BUNDLE: Final = "in the bundle"


def number(generation: str | None) -> str:
    """The number of a generation, `–` for none; its epoch is 36 characters that say nothing to a person."""
    return generation.rpartition(".")[2] if generation else "–"


def when(at: str | None, never: str = "–") -> Markup:
    """An RFC 3339 time; the script says how long ago it was."""
    if at is None:
        return el("span", never, class_="muted")
    return el("time", at.replace("T", " ").replace("Z", " UTC"), datetime=at)


def badge(kind: Kind) -> Markup:
    """A kind as a word with its colour beside it."""
    return el("span", el("i", class_="dot"), kind, class_=f"kind {kind}", title=EXPLAINED[kind])


def size(count: int) -> str:
    """`1.2 KiB`."""
    if count < 1024:
        return f"{count} B"
    if count < 1024 * 1024:
        return f"{count / 1024:.1f} KiB"
    return f"{count / 1024 / 1024:.1f} MiB"


def many(count: int, one: str, more: str | None = None) -> str:
    """`1 node`, `2 nodes`, `10,000 nodes`."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"
