"""How all views show the same things: a generation's number, a time, a state, a size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .markup import Markup, el

EXPLAINED: Final[Mapping[str, str]] = {
    "not_registered": "not registered",
    "failed": "registered; the newest run of the materializer failed",
    "not_ready": "registered; the materializer is not ready",
    "no_files": "registered; the generation gives it no files",
    "not_applied": "could not apply its files",
    "applied": "has applied its files",
    "served": "was given its files, and has not acknowledged them yet",
    "ready": "has not asked for its files yet",
}

IN_BUNDLE: Final = "in the bundle"


def number(generation: str | None) -> str:
    """The number of a generation, `–` for none; its epoch is 36 characters that say nothing to a person."""
    return generation.rpartition(".")[2] if generation else "–"


def when(at: str | None, never: str = "–") -> Markup:
    """An RFC 3339 time; the script shows how long ago it was."""
    if at is None:
        return el("span", never, class_="muted")
    return el("time", at.replace("T", " ").replace("Z", " UTC"), datetime=at)


def spelled(state: str) -> str:
    """`not ready`."""
    return state.replace("_", " ")


def badge(state: str) -> Markup:
    """A state as a word with its colour beside it."""
    return el("span", el("i", class_="dot"), spelled(state), class_=f"state {state}", title=EXPLAINED[state])


def size(count: int) -> str:
    """`1.2 KiB`."""
    if count < 1024:
        return f"{count} B"
    if count < 1024 * 1024:
        return f"{count / 1024:.1f} KiB"
    return f"{count / 1024 / 1024:.1f} MiB"


def many(count: int, one: str) -> str:
    """`1 node`, `2 nodes`, `10,000 nodes`."""
    return f"{count:,} {one if count == 1 else one + 's'}"
