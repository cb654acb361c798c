"""The nodes as a plain table, one page of it at a time. It works with scripts off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cfgsync_core import NodeStatus

from .formatting import EXPLAINED, IN_BUNDLE, badge, many, number, spelled, when
from .markup import Child, Markup, el, query


class NodeTable(msgspec.Struct, frozen=True):
    """A page of the table. With a `state` it has only the nodes in that state; `start` nodes come before it, `of` is how
    many there are; `next` is the `after` of the next page."""

    nodes: Sequence[NodeStatus]
    start: int
    of: int
    state: str = ""
    next: str | None = None


def table(rows: NodeTable, static: bool) -> Markup:
    """The section."""
    title = f"Nodes: {spelled(rows.state)} " if rows.state else "Nodes "
    shown = (
        f"{rows.start + 1:,} to {rows.start + len(rows.nodes):,} of {rows.of:,}"
        if rows.start or rows.next
        else f"{rows.of:,}"
    )
    body: Child = [_row(node, static) for node in rows.nodes]
    if not rows.nodes:
        body = el("tr", el("td", "There are none.", colspan=6, class_="muted"))
    return el(
        "section",
        el("h2", title, el("small", shown)),
        el("p", EXPLAINED[rows.state].capitalize() + ". ", el("a", "Show all", href="./"), class_="muted")
        if rows.state
        else None,
        el(
            "table",
            el("thead", el("tr", [el("th", name, scope="col") for name in _COLUMNS])),
            el("tbody", body),
            class_="nodes",
        ),
        _pager(rows),
        id="nodes",
        class_="card",
    )


_COLUMNS: Final = ("node", "state", "served", "applied", "last seen", "why")


_SHARED_REASON: Final = {
    "failed": "the newest run failed, see above",
    "not_ready": "the fleet is not ready, see above",
}
"""By state of a node: its reason is the fleet's, which the page shows once."""


def _row(node: NodeStatus, static: bool) -> Markup:
    why = _SHARED_REASON.get(node.state, node.reason)
    cells: tuple[Child, ...] = (
        el("a", node.identifier, href=query(node=node.identifier)),
        IN_BUNDLE if static else badge(node.state),
        number(node.served),
        number(node.applied),
        when(node.last_seen, "never"),
        (el("span", why, class_="words"), _name_conflict(node)),
    )
    return el("tr", [el("td", cell, data_name=name) for name, cell in zip(_COLUMNS, cells, strict=True)])


def _name_conflict(node: NodeStatus) -> Markup | None:
    """Signs that two nodes use one name."""
    signs = ""
    if node.rebound:
        signs += f" Another secret took this name {many(int(node.rebound), 'time')}."
    if node.superseded and node.state in _SHARED_REASON:
        signs += f" Its held request was superseded {many(int(node.superseded), 'time')}."
    return el("strong", signs, class_="bad") if signs else None


def _pager(rows: NodeTable) -> Markup | None:
    if not rows.start and rows.next is None:
        return None
    return el(
        "nav",
        el("a", "first", href=query(state=rows.state or None) + "#nodes") if rows.start else None,
        " ",
        el("a", "next", href=query(state=rows.state or None, after=rows.next) + "#nodes")
        if rows.next
        else None,
        class_="pager",
        aria_label="Further nodes",
    )
