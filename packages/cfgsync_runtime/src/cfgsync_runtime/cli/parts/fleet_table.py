"""What a server told of its fleet, for people: a table that fits its reader's columns, and nothing that moves a cursor.

Off a terminal that is 80 columns without colours. A narrow one drops what says least: the day, then the time a node was
last seen.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TextIO

import msgspec

from cfgsync_core import Condition, describe, plain

from .terminal import COLUMNS, cells, filled, fitted, has_colours, is_live, painted, size

_TITLES: Final = ("NODE", "STATE", "SERVED", "APPLIED", "LAST SEEN")
_WIDE: Final = (11, 10, 10, 20)
_NARROW: Final = (10, 6, 7, 9)
"""The widths of all columns but the first."""
_LEAST_NODE: Final = 22
_BEHIND: Final = 3
"""How many nodes that are not in step are named."""
_ROOM: Final = {4: 16, 3: 4, 1: 4}
"""How many columns a name has to get for so many others to be there."""
_COLOURS: Final = {
    "failed": "red",
    "waiting": "yellow",
    "served": "cyan",
    "applied": "green",
    "stranger": "dim",
}


class Page(NamedTuple):
    """For whom it is written: so many columns, with colours or without."""

    width: int = COLUMNS
    colours: bool = False

    @classmethod
    def of(cls, stream: TextIO | None = None) -> Page:
        """Whoever reads stdout, or `stream`."""
        stream = stream or sys.stdout
        return cls(size(stream)[0] if is_live(stream) else COLUMNS, has_colours(stream))

    def painted(self, text: str, colour: str) -> str:
        return painted(text, colour) if self.colours and colour else text


class ToldNode(msgspec.Struct, frozen=True):
    """A node as a server of this version or a later one says it."""

    identifier: str
    registered: bool = False
    waiting: bool = False
    served: str | None = None
    applied: str | None = None
    last_failure: str | None = None
    last_seen: str | None = None
    reason: str | None = None
    rebound: int = 0
    state: str = ""


class ToldBehind(msgspec.Struct, frozen=True):
    """A node that has not applied what it is given, and why."""

    identifier: str
    reason: str = ""


class ToldFleet(msgspec.Struct, frozen=True):
    """A fleet, likewise, or one page of it. `applied` None: the server is older than acknowledgements."""

    registered: int
    waiting: int
    generation: str | None = None
    revision: int = 0
    reason: str | None = None
    conditions: tuple[Condition, ...] = ()
    nodes: tuple[ToldNode, ...] = ()
    insecure: tuple[str, ...] = ()
    applied: int | None = None
    behind: tuple[ToldBehind, ...] = ()
    behind_count: int = 0


def table(fleet: ToldFleet, nodes: Sequence[ToldNode], page: Page) -> Iterator[str]:
    """The fleet, and a line for each of these nodes."""
    yield from summary(fleet, page)
    if nodes:
        yield ""
        yield from rows(nodes, page)


def summary(fleet: ToldFleet, page: Page) -> Iterator[str]:
    """The fleet in a few lines: its generation, its counts, and why it is not ready."""
    applied = f", {fleet.applied} applied" if fleet.applied is not None else ""
    counts = f"generation {number(fleet.generation)}, {fleet.registered} registered, {fleet.waiting} waiting{applied}"
    yield from wrapped(counts, page, "bold")
    if fleet.insecure:
        yield from wrapped(f"insecure: {plain(', '.join(fleet.insecure))}", page, "red")
    if fleet.reason:
        everybody = fleet.generation is not None and fleet.applied == fleet.registered
        what = "no newer generation" if everybody else "not ready"
        yield from wrapped(f"{what}: {plain(fleet.reason)}", page, "yellow")
    for condition in fleet.conditions:
        if condition.missing and condition.missing[0] in (fleet.reason or ""):
            continue  # the reason names them
        yield from wrapped(f"{plain(condition.name)}: {describe('', (condition,))}", page)
    if fleet.generation and fleet.behind:
        yield from wrapped(f"not in step: {_behind(fleet)}", page, "yellow")


def _behind(fleet: ToldFleet) -> str:
    """The first of those that have not applied what they are given, each with its reason."""
    named = [f"{plain(node.identifier)} ({plain(node.reason)})" for node in fleet.behind[:_BEHIND]]
    more = max(fleet.behind_count, len(fleet.behind)) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def rows(nodes: Iterable[ToldNode], page: Page) -> Iterator[str]:
    """A line for each node, under the titles."""
    nodes = list(nodes)
    widths = _widths(page.width, max((cells(plain(node.identifier)) for node in nodes), default=0))
    yield page.painted(_row(_TITLES, widths), "bold")
    for node in nodes:
        yield row(node, widths, page)


def row(node: ToldNode, widths: Sequence[int], page: Page) -> str:
    """One node in one line. `widths` are those of `rows`."""
    stands = state(node)
    seen = plain(node.last_seen or "never", 40)
    if len(widths) > 4 and widths[4] < len(seen):
        seen = seen.partition("T")[2] or seen  # the time of the day
    texts = (node.identifier, stands, number(node.served), number(node.applied), seen)
    return _row(texts, widths, page.painted(filled(stands, widths[1]), _COLOURS.get(stands, "")))


def one(node: ToldNode, page: Page) -> Iterator[str]:
    """All that is known of one node."""
    stands = state(node)
    name = fitted(plain(node.identifier), page.width - len(stands) - 2)
    yield f"{name}: {page.painted(stands, _COLOURS.get(stands, ''))}"
    yield from wrapped(f"served generation {number(node.served)}, applied {number(node.applied)}", page)
    yield from wrapped(f"last seen {plain(node.last_seen or 'never', 40)}", page)
    if node.rebound:
        times = "once" if node.rebound == 1 else f"{node.rebound} times"
        yield from wrapped(f"another secret took this name {times}: is it one node?", page, "red")
    if node.last_failure:
        yield from wrapped(f"last failure: {plain(node.last_failure)}", page, "red")
    if node.reason:
        yield from wrapped(f"why: {plain(node.reason)}", page)


def state(node: ToldNode) -> str:
    """Where a node stands, in one word: the same as on the server's page (`page/survey.py`)."""
    if not node.registered:
        return "stranger"
    match node.state:
        case "applied" | "served" as same:  # and it may hold a question, for what comes next
            return same
        case "failed" | "not_applied" | "no_files":
            return "failed"
        case "not_ready" | "ready":
            return "waiting" if node.waiting else "registered"
    if node.last_failure:  # a server of an earlier version says no state
        return "failed"
    if node.waiting:
        return "waiting"
    return "applied" if node.applied else "served" if node.served else "registered"


def number(generation: str | None) -> str:
    """The number of a generation; its epoch is 36 characters that say nothing to a person."""
    return plain(generation.rpartition(".")[2], 10) if generation else "-"


def _widths(width: int, longest: int) -> tuple[int, ...]:
    """Of each column that has a place: the nodes' names get what the others leave, and what they need."""
    if width >= COLUMNS:
        others: tuple[int, ...] = _WIDE
        least = _LEAST_NODE
    else:
        fits = [count for count in (4, 3, 1) if width >= sum(_NARROW[:count]) + count + _ROOM[count]]
        others = _NARROW[: fits[0] if fits else 1]
        least = 4
    left = width - sum(others) - len(others)
    return (max(min(left, max(longest, least)), 1), *others)


def _row(texts: Sequence[str], widths: Sequence[int], stands: str = "") -> str:
    shown = [filled(plain(text), width) for text, width in zip(texts, widths, strict=False)]
    if stands:
        shown[1] = stands
    return " ".join(shown).rstrip()


def wrapped(line: str, page: Page, colour: str = "") -> Iterator[str]:
    """The words of `line` in lines that fit; all of them, since a name left out may be the one in question."""
    now = ""
    for word in line.split():
        if now and cells(now) + 1 + cells(word) > page.width:
            yield page.painted(fitted(now, page.width), colour)
            now = "  " + word
        else:
            now = f"{now} {word}" if now else word
    yield page.painted(fitted(now, page.width), colour)
