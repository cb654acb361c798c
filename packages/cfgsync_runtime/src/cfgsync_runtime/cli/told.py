"""What a server told of its fleet, as a table for people: at most 80 columns, and nothing that moves a cursor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from cfgsync_core import Condition, describe, plain

_COLUMNS: Final = (("NODE", 22), ("STATE", 11), ("SERVED", 10), ("APPLIED", 10), ("LAST SEEN", 20))


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


def table(fleet: ToldFleet, nodes: Iterable[ToldNode]) -> Iterator[str]:
    """The fleet, and a line for each of these nodes."""
    applied = f", {fleet.applied} applied" if fleet.applied is not None else ""
    yield (
        f"generation {number(fleet.generation)}, {fleet.registered} registered, {fleet.waiting} waiting{applied}"
    )
    if fleet.insecure:
        yield from wrapped(f"insecure: {plain(', '.join(fleet.insecure))}")
    if fleet.reason:
        yield from wrapped(f"not ready: {plain(fleet.reason)}")
    for condition in fleet.conditions:
        if condition.missing and condition.missing[0] in (fleet.reason or ""):
            continue  # the reason names them
        yield from wrapped(f"{plain(condition.name)}: {describe('', (condition,))}")
    if fleet.nodes:
        yield ""
        yield from rows(nodes)


def rows(nodes: Iterable[ToldNode]) -> Iterator[str]:
    """A line for each node, under the titles."""
    yield _row([title for title, _ in _COLUMNS])
    for node in nodes:
        seen = node.last_seen or "-"
        yield _row([node.identifier, _state(node), number(node.served), number(node.applied), seen])


def one(node: ToldNode) -> Iterator[str]:
    """All that is known of one node."""
    yield _cut(f"{plain(node.identifier)}: {_state(node)}")
    yield f"served generation {number(node.served)}, applied {number(node.applied)}"
    yield f"last seen {node.last_seen or 'never'}"
    if node.rebound:
        times = "once" if node.rebound == 1 else f"{node.rebound} times"
        yield from wrapped(f"another secret took this name {times}: is it one node?")
    if node.last_failure:
        yield from wrapped(f"last failure: {plain(node.last_failure)}")
    if node.reason:
        yield from wrapped(f"why: {plain(node.reason)}")


def _state(node: ToldNode) -> str:
    if not node.registered:
        return "stranger"
    if node.last_failure:
        return "failed"
    if node.waiting:
        return "waiting"
    return (
        "applied"
        if node.applied and node.state in ("applied", "")
        else "served"
        if node.served
        else "registered"
    )


def number(generation: str | None) -> str:
    """The number of a generation; its epoch is 36 characters that say nothing to a person."""
    return plain(generation.rpartition(".")[2], 10) if generation else "-"


def _row(cells: Sequence[str]) -> str:
    cut = [
        (text if len(text) <= width else text[: width - 1] + "…").ljust(width)
        for text, (_, width) in zip(map(plain, cells), _COLUMNS, strict=True)
    ]
    return " ".join(cut).rstrip()


def _cut(line: str, width: int = 80) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def wrapped(line: str, width: int = 80) -> Iterator[str]:
    """The words of `line` in lines of at most `width`; all of them, since a name left out may be the one in question."""
    now = ""
    for word in line.split():
        if now and len(now) + 1 + len(word) > width:
            yield _cut(now, width)
            now = "  " + word
        else:
            now = f"{now} {word}" if now else word
    yield _cut(now, width)
