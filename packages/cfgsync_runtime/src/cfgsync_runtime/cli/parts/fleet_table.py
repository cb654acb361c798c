"""The status of a fleet as lines that fit the terminal's width; nothing in them moves its cursor.

Off a terminal the width is 80 columns, without colours. A narrow terminal loses the least useful parts: the day, then the
time when a node was last seen.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TextIO

from msgspec import UNSET

from cfgsync_core import FleetStatus, NodeStatus
from cfgsync_core.text import both_ends, counted, plain
from cfgsync_core.wire import (
    FLEET_COLOURS,
    NODE_STATES,
    describe,
    generation_number,
    last_seen,
)

from .terminal import COLUMNS, cells, filled, fitted, has_colours, is_live, size

_TITLES: Final = ("NODE", "STATE", "SERVED", "APPLIED", "LAST SEEN")
_WIDE: Final = (11, 10, 10, 20)
_NARROW: Final = (11, 6, 7, 9)
"""The widths of all columns but the first."""
_LEAST_NODE: Final = 22
_NAMED: Final = 8
"""How many of the nodes that promised to keep in touch are named under the table."""
_BEHIND: Final = 3
SHOWN: Final = 2_000
"""Characters of a reason, which may quote the last lines of a program."""
"""How many of the nodes that are behind are named."""
_MISSING: Final = 60
"""How many missing nodes are named, where the reason names only the first of them."""
_WITH_FILES: Final = frozenset(state for state, facts in NODE_STATES.items() if facts.has_files)
_NAME_WIDTHS: Final = {4: 16, 3: 4, 1: 4}
"""By number of other columns: the least width of the first one at which the others are shown."""
_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Page(NamedTuple):
    """The width in columns, and whether there are colours."""

    width: int = COLUMNS
    colours: bool = False

    @classmethod
    def of(cls, stream: TextIO | None = None) -> Page:
        """What fits stdout, or `stream`."""
        stream = stream or sys.stdout
        return cls(size(stream)[0] if is_live(stream) else COLUMNS, has_colours(stream))

    def painted(self, text: str, colour: str) -> str:
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.colours and colour else text


def table(fleet: FleetStatus, nodes: Sequence[NodeStatus], page: Page) -> Iterator[str]:
    """The fleet, and a line for each of these nodes."""
    yield from summary(fleet, page)
    if nodes:
        yield ""
        yield from rows(nodes, page)
    promised = [plain(node.identifier) for node in nodes if node.keepalive]
    if promised:
        more = f" and {len(promised) - _NAMED} more" if len(promised) > _NAMED else ""
        yield from wrapped(f"promised to keep in touch: {', '.join(promised[:_NAMED])}{more}", page)
    overdue = [node for node in nodes if node.overdue]
    if overdue:
        silent = [
            f"{plain(node.identifier)} (last seen {node.overdue} s ago, promised {node.keepalive} s)"
            for node in overdue[:_NAMED]
        ]
        more = f" and {len(overdue) - _NAMED} more" if len(overdue) > _NAMED else ""
        yield from wrapped(f"overdue: {', '.join(silent)}{more}", page, "yellow")


def summary(fleet: FleetStatus, page: Page) -> Iterator[str]:
    """The fleet in a few lines: its generation, its counts, its state and why, and the nodes that are behind."""
    yield from wrapped(_counts(fleet), page, "bold")
    if fleet.insecure:
        yield from wrapped(f"insecure: {plain(', '.join(fleet.insecure))}", page, "red")
    if fleet.tls and (why := fleet.tls.warning):
        yield from wrapped(f"certificate: {plain(why)}", page, "red")
    state = plain(fleet.state.replace("_", " ") or "reason")  # older than states: there is only a reason
    if fleet.state or fleet.reason:
        joined = ", but " if fleet.state in ("converging", "converged") else ": "
        line = f"{state}{joined}{plain(fleet.reason)}" if fleet.reason else state
        yield from wrapped(line, page, FLEET_COLOURS.get(fleet.state, ""))
    named = set(re.split("[ ,;()]+", fleet.reason))
    if missing := [plain(node.identifier, 128) for node in fleet.missing if node.identifier not in named]:
        more = len(missing) - _MISSING
        names = ", ".join(missing[:_MISSING]) + (f" and {more} more" if more > 0 else "")
        yield from wrapped(f"also missing: {names}", page)
    if not any(condition.missing for condition in fleet.conditions):  # else the reason names them
        for condition in fleet.conditions:
            yield from wrapped(f"{plain(condition.name)}: {describe('', (condition,))}", page)
    if fleet.behind and (fleet.generation or is_static(fleet)):
        yield from wrapped(f"behind: {_behind(fleet)}", page, "yellow")
    if fleet.servers and len(fleet.servers) > 1:
        silent = any(one.is_silent for one in fleet.servers)
        words = "; ".join(one.words for one in fleet.servers)
        yield from wrapped(f"servers: {words}", page, "yellow" if silent else "")
    if fleet.rollout and (fleet.rollout.state != "idle" or fleet.rollout.failed):
        bad = fleet.rollout.state == "halted"
        yield from wrapped(
            f"rollout of {plain(fleet.rollout.sentence, SHOWN)}", page, "red" if bad else "yellow"
        )
    if fleet.drifted:
        yield from wrapped(f"* changed on the node's disk: {drifted(fleet)}", page, "yellow")


def drifted(fleet: FleetStatus) -> str:
    """The first of the nodes on whose disks files were changed, each with the paths."""
    named = [
        f"{plain(node.identifier)} ({plain(', '.join(node.paths), 200)})"
        for node in (fleet.drifted or ())[:_BEHIND]
    ]
    more = (fleet.drifted_count or 0) - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def is_static(fleet: FleetStatus) -> bool:
    """True for a server that has files for nodes but no generations: it serves a bundle."""
    return fleet.generation is None and any(fleet.counts.get(state) for state in _WITH_FILES)


def _counts(fleet: FleetStatus) -> str:
    """The fleet's counts, those of the states as the page has them."""
    if is_static(fleet):
        head = f"a bundle of {counted(sum(fleet.counts.values()), 'node')}, {fleet.registered} registered"
    else:
        head = f"generation {number(fleet.generation)}, {fleet.registered} registered"
        if (
            fleet.waiting and fleet.state != "converged"
        ):  # then they are watchers that wait for the next generation
            head += f", {counted(fleet.waiting, 'held request')}"
    if not fleet.counts:  # an older server
        return head if fleet.converged is UNSET else f"{head}, {fleet.applied} applied"
    shown = [(state, fleet.counts.get(state, 0)) for state in NODE_STATES]
    return head + "".join(f", {count} {state}" for state, count in shown if count or state == "applied")


def _behind(fleet: FleetStatus) -> str:
    """The first of the nodes that are behind, each with its reason."""
    named = [f"{plain(node.identifier)} ({both_ends(node.reason)})" for node in fleet.behind[:_BEHIND]]
    more = max(fleet.behind_count, len(fleet.behind)) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def rows(nodes: Iterable[NodeStatus], page: Page) -> Iterator[str]:
    """A line for each node, under the titles."""
    nodes = list(nodes)
    widths = _widths(page.width, max((cells(plain(node.identifier)) for node in nodes), default=0))
    yield page.painted(_row(_TITLES, widths), "bold")
    for node in nodes:
        yield row(node, widths, page)


def row(node: NodeStatus, widths: Sequence[int], page: Page) -> str:
    """One node in one line. `widths` are those of `rows`."""
    state = _state(node)
    seen = _seen(node)
    if len(widths) > 4 and widths[4] < len(seen):
        seen = seen.partition("T")[2] or seen  # the time of the day
    if node.drifted:
        state = f"{state}*"
    texts = (node.identifier, state, number(node.served), number(node.applied), seen)
    return _row(texts, widths, page.painted(filled(state, widths[1]), colour(node.state)))


def is_known(node: NodeStatus) -> bool:
    """True for a node that is registered, or to which a bundle gives files."""
    return node.registered or node.state in _WITH_FILES


def one(node: NodeStatus, page: Page) -> Iterator[str]:
    """All that is known of one node."""
    state = _state(node)
    name = fitted(plain(node.identifier), page.width - cells(state) - 2)
    yield f"{name}: {page.painted(state, colour(node.state))}"
    what = "files" if "sha256-" in f"{node.served}{node.applied}" else "generation"
    yield from wrapped(f"served {what} {number(node.served)}, applied {number(node.applied)}", page)
    yield from wrapped(f"last seen {_seen(node)}", page)
    if node.registered:
        kept = (
            f"every {node.keepalive} s (if silent, serve --ttl removes it)"
            if node.keepalive
            else "no (serve --ttl does not remove it)"
        )
        yield from wrapped(f"promised to keep in touch: {kept}", page)
    if node.rebound:
        times = "once" if node.rebound == 1 else f"{node.rebound} times"
        yield from wrapped(f"another secret took this name {times}: do two nodes use it?", page, "red")
    if node.last_failure:
        yield from wrapped(f"last failure: {both_ends(node.last_failure, SHOWN)}", page, "red")
    if node.reason:
        yield from wrapped(f"why: {both_ends(node.reason, SHOWN)}", page)


def _seen(node: NodeStatus) -> str:
    """When this node was last seen; one that registered before the server's restart may not have been seen since."""
    return plain(last_seen(node), 40)


def _state(node: NodeStatus) -> str:
    """The state in the server's answer, `-` from a server older than states."""
    return fitted(plain(node.state) or "-", 14)


def colour(state: str) -> str:
    """The colour of a node's state, `""` for an unknown one."""
    return next((facts.colour for known, facts in NODE_STATES.items() if known == state), "")


def number(generation: str | None) -> str:
    """The number of a generation, or the first digits of a digest."""
    return plain(generation_number(generation) or "-", 10)


def _widths(width: int, longest: int) -> tuple[int, ...]:
    """The widths of the columns that fit; the first one, the nodes' names, gets what the others leave."""
    if width >= COLUMNS:
        others: tuple[int, ...] = _WIDE
        least = _LEAST_NODE
    else:
        fits = [count for count in (4, 3, 1) if width >= sum(_NARROW[:count]) + count + _NAME_WIDTHS[count]]
        others = _NARROW[: fits[0] if fits else 1]
        least = 4
    left = width - sum(others) - len(others)
    return (max(min(left, max(longest, least)), 1), *others)


def _row(texts: Sequence[str], widths: Sequence[int], state: str = "") -> str:
    shown = [filled(plain(text), width) for text, width in zip(texts, widths, strict=False)]
    if state:
        shown[1] = state
    return " ".join(shown).rstrip()


def wrapped(line: str, page: Page, colour: str = "") -> Iterator[str]:
    """`line` broken into lines that fit. Nothing is left out: a missing name may be the one that matters."""
    now = ""
    for word in line.split():
        if now and cells(now) + 1 + cells(word) > page.width:
            yield page.painted(fitted(now, page.width), colour)
            now = "  " + word
        else:
            now = f"{now} {word}" if now else word
    yield page.painted(fitted(now, page.width), colour)
