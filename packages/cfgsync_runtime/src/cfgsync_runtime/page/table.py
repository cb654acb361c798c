"""The nodes as a plain table, failures first, one page of it at a time. It works with scripts off, and so does its filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cfgsync_core import NodeStatus
from cfgsync_core.wire import last_seen

from .formatting import (
    badge,
    data_table,
    drift_mark,
    many,
    meaning,
    node_link,
    number,
    pager,
    section,
    spelled,
    when,
)
from .markup import Child, Markup, el
from .scan import SHARED_REASON


class NodeRow(msgspec.Struct, frozen=True):
    """A node and the address that it registered with."""

    node: NodeStatus
    address: str | None


class NodeTable(msgspec.Struct, frozen=True):
    """A page of the table: of the nodes in `state` and with `find` in their text, where these are given. `start` nodes of
    `of` come before it; `next` is the `after` of the next page."""

    rows: Sequence[NodeRow]
    start: int
    of: int
    state: str = ""
    find: str = ""
    next: str | None = None


def table(nodes: NodeTable) -> Markup:
    """The section."""
    title = f"Nodes: {spelled(nodes.state)} " if nodes.state else "Nodes "
    shown = (
        f"{nodes.start + 1:,} to {nodes.start + len(nodes.rows):,} of {nodes.of:,}"
        if nodes.start or nodes.next
        else f"{nodes.of:,}"
    )
    explained = f"{meaning(nodes.state).capitalize()}. " if nodes.state else ""
    if nodes.find:
        explained += f"{'Found by' if nodes.rows else 'No node has'} “{nodes.find}” in name, address, state or reason. "
    return section(
        "nodes",
        el("div", el("h2", title, el("small", shown)), _filter(nodes), class_="head"),
        el("p", explained, el("a", "Show all", href="./"), class_="muted") if explained else None,
        data_table("nodes", _COLUMNS, [_row(row) for row in nodes.rows]),
        pager(nodes.start > 0, nodes.next, "#nodes", state=nodes.state or None, find=nodes.find or None),
    )


def _filter(nodes: NodeTable) -> Markup:
    label = "Filter all nodes by a part of name, address, state or reason"
    return el(
        "form",
        el("input", type="hidden", name="state", value=nodes.state) if nodes.state else None,
        el(
            "input",
            id="find",
            name="find",
            type="search",
            value=nodes.find,
            placeholder="Filter all nodes",
            title=label,
            aria_label=label,
            autocomplete="off",
            spellcheck="false",
        ),
        action="./",
        method="get",
        role="search",
        class_="filter",
    )


_COLUMNS: Final = ("node", "address", "state", "served", "applied", "last seen", "why")


def _row(row: NodeRow) -> Sequence[Child]:
    node = row.node
    why = SHARED_REASON.get(node.state, node.reason)
    return (
        node_link(node.identifier),
        el("span", row.address, class_="words") if row.address else el("span", "–", class_="muted"),
        (badge(node.state), drift_mark(node)),
        number(node.served),
        number(node.applied),
        when(node.last_seen, last_seen(node)),
        (el("span", why, class_="words"), _name_conflict(node)),
    )


def _name_conflict(node: NodeStatus) -> Markup | None:
    """Signs that two nodes use one name."""
    signs = ""
    if node.rebound:
        signs += f" Another secret took this name {many(int(node.rebound), 'time')}."
    if node.superseded and node.state in SHARED_REASON:
        signs += f" Its held request was superseded {many(int(node.superseded), 'time')}."
    return el("strong", signs, class_="bad") if signs else None
