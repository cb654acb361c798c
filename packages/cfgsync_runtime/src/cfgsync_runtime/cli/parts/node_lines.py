"""Nodes as an operator sees them: a line for each, as wide as its words, or one node with the files that it gets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from cfgsync_core.text import plain
from cfgsync_core.wire import last_seen

from ...operator.node_list import ListedFile, ListedNode, ShownNode
from .fleet_table import Page, colour, number, one, wrapped
from .terminal import cells, filled

_TITLES: Final[Sequence[str]] = ("NODE", "STATE", "ADDRESS", "SERVED", "APPLIED", "LAST SEEN", "METADATA")


def node_lines(
    nodes: Sequence[ListedNode], page: Page, *, wide: bool = False, columns: int | None = None
) -> Iterator[str]:
    """A line for each node under the titles. No name is cut; `wide` adds the metadata. Where `columns` are too few, as on
    a narrow terminal, the day of LAST SEEN is left out."""
    table = [_TITLES, *map(_words, nodes)]
    if not wide:
        table = [row[:-1] for row in table]
    widths = _widths(table)
    if columns is not None and not wide and sum(widths) + 2 * len(widths) - 2 > columns:
        table = [(*row[:-1], row[-1].partition("T")[2] or row[-1]) for row in table]
        widths = _widths(table)
    for at, row in enumerate(table):
        texts = [filled(text, width) for text, width in zip(row, widths, strict=True)]
        texts[1] = page.painted(texts[1], colour(nodes[at - 1].state) if at else "")
        yield page.painted("  ".join(texts).rstrip(), "" if at else "bold")


def _widths(table: Sequence[Sequence[str]]) -> Sequence[int]:
    return [max(map(cells, column)) for column in zip(*table, strict=True)]


def _words(node: ListedNode) -> Sequence[str]:
    return (
        plain(node.identifier, 200),
        (plain(node.state, 40) or "-") + ("*" if node.drifted else ""),
        plain(node.address or "-", 60),
        number(node.served),
        number(node.applied),
        plain(last_seen(node), 40),
        _metadata(node) or "-",
    )


def _metadata(node: ListedNode) -> str:
    return "" if node.metadata is None else plain(msgspec.json.encode(node.metadata).decode(), None)


def shown_lines(node: ShownNode, page: Page) -> Iterator[str]:
    """All that is known of one node, and its files."""
    yield from one(node, page)
    if node.address:
        yield from wrapped(f"address {plain(node.address, 60)}", page)
    if node.metadata is not None:
        yield f"metadata {_metadata(node)}"
    if node.digest is None:
        yield "no files"
        return
    of = f" of generation {number(node.generation)}" if node.generation else ""
    yield f"files{of}, {plain(node.digest, 80)}{'  (replaced by an operator)' if node.replaced else ''}"
    yield from _file_lines(node.files)
    if node.shared:
        yield "shared files"
        yield from _file_lines(node.shared)


def _file_lines(files: Iterable[ListedFile]) -> Iterator[str]:
    for file in files:
        if file.secret:
            facts = "secret"
        else:
            facts = f"{file.size:>9}  {plain(str(file.digest), 80)}"
        yield f"  {plain(file.mode, 8)}  {facts}  {plain(file.path, 1_024)}"
