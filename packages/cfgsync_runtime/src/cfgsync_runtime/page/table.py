"""Nodes as a plain table, a page of it at a time: what stands there with scripts off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cfgsync_core import NodeStatus

from .markup import Child, Markup, el, query
from .survey import Kind, kind_of
from .words import EXPLAINED, IN_BUNDLE, badge, many, number, when


class NodeTable(msgspec.Struct, frozen=True):
    """A page of the table. `kind` is which nodes were asked for; `start` how many come before, `of` how many there are;
    `next` what to ask for `after`."""

    nodes: Sequence[NodeStatus]
    start: int
    of: int
    kind: Kind | None = None
    next: str | None = None


def table(rows: NodeTable, reason: str, static: bool) -> Markup:
    """The section. `reason` is the fleet's, which no row repeats."""
    of_kind = f" that are {rows.kind}" if rows.kind else ""
    title = f"Nodes: {rows.kind} " if rows.kind else "Nodes "
    shown = (
        f"{rows.start + 1:,} to {rows.start + len(rows.nodes):,} of {rows.of:,}"
        if rows.start or rows.next
        else f"{rows.of:,}"
    )
    body: Child = [_row(node, reason, static) for node in rows.nodes]
    if not rows.nodes:
        body = el("tr", el("td", f"There are none{of_kind}.", colspan=6, class_="muted"))
    return el(
        "section",
        el("h2", title, el("small", shown)),
        el("p", EXPLAINED[rows.kind].capitalize() + ". ", el("a", "Show all", href="./"), class_="muted")
        if rows.kind
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


def _row(node: NodeStatus, reason: str, static: bool) -> Markup:
    # what holds all of them is said once, above
    why = (
        "the fleet is not ready, see above" if reason and node.reason.endswith(f"; {reason}") else node.reason
    )
    cells: tuple[Child, ...] = (
        el("a", node.identifier, href=query(node=node.identifier)),
        IN_BUNDLE if static else badge(kind_of(node)),
        number(node.served),
        number(node.applied),
        when(node.last_seen, "never"),
        (el("span", why, class_="words"), _rebound(node)),
    )
    return el("tr", [el("td", cell, data_name=name) for name, cell in zip(_COLUMNS, cells, strict=True)])


def _rebound(node: NodeStatus) -> Markup | None:
    if not node.rebound:
        return None
    return el("strong", f" Another secret took this name {many(int(node.rebound), 'time')}.", class_="bad")


def _pager(rows: NodeTable) -> Markup | None:
    if not rows.start and rows.next is None:
        return None
    return el(
        "nav",
        el("a", "first", href=query(state=rows.kind) + "#nodes") if rows.start else None,
        " ",
        el("a", "next", href=query(state=rows.kind, after=rows.next) + "#nodes") if rows.next else None,
        class_="pager",
        aria_label="Further nodes",
    )
