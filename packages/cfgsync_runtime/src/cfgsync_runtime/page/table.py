"""The nodes as a plain table, one page of it at a time. It works with scripts off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cfgsync_core import NodeStatus

from .formatting import (
    EXPLAINED,
    IN_BUNDLE,
    badge,
    data_table,
    many,
    node_link,
    number,
    pager,
    section,
    spelled,
    when,
)
from .markup import Child, Markup, el


class NodeTable(msgspec.Struct, frozen=True):
    """A page of the table; with a `state`, of the nodes in that state. `start` nodes of `of` come before it; `next` is the
    `after` of the next page."""

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
    explained = EXPLAINED[rows.state].capitalize() + ". " if rows.state else None
    return section(
        "nodes",
        el("h2", title, el("small", shown)),
        el("p", explained, el("a", "Show all", href="./"), class_="muted") if explained else None,
        data_table("nodes", _COLUMNS, [_row(node, static) for node in rows.nodes]),
        pager(rows.start > 0, rows.next, "#nodes", state=rows.state or None),
    )


_COLUMNS: Final = ("node", "state", "served", "applied", "last seen", "why")
_SHARED_REASON: Final = {
    "failed": "the newest run failed, see above",
    "not_ready": "the fleet is not ready, see above",
}
"""By state of a node: its reason is the fleet's, which the page shows once."""


def _row(node: NodeStatus, static: bool) -> Sequence[Child]:
    why = _SHARED_REASON.get(node.state, node.reason)
    return (
        node_link(node.identifier),
        IN_BUNDLE if static else badge(node.state),
        number(node.served),
        number(node.applied),
        when(node.last_seen, "never"),
        (el("span", why, class_="words"), _name_conflict(node)),
    )


def _name_conflict(node: NodeStatus) -> Markup | None:
    """Signs that two nodes use one name."""
    signs = ""
    if node.rebound:
        signs += f" Another secret took this name {many(int(node.rebound), 'time')}."
    if node.superseded and node.state in _SHARED_REASON:
        signs += f" Its held request was superseded {many(int(node.superseded), 'time')}."
    return el("strong", signs, class_="bad") if signs else None
