"""How all views show the same things: a number, a time, a state, a size, a node; sections, tables, links to further pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from cfgsync_core import NodeStatus
from cfgsync_core.wire import NODE_STATES, MissingNode, generation_number

from .markup import Child, Markup, el, query

NOT_SHOWN: Final = (
    "Contents are not shown here: log in with a reader's token, or on the server's machine use cfgsync generation show"
    " --contents, or cfgsync serve --page-contents."
)

NOT_SHOWN_OF_A_BUNDLE: Final = (
    "Contents are not shown here: start the server with --page-contents, or read the bundle."
)


def number(generation: str | None) -> str:
    """The number of a generation, the first digits of a digest; `–` without either."""
    return generation_number(generation) or "–"


def when(at: str | None, never: str = "–") -> Markup:
    """An RFC 3339 time; the script shows how long ago it was."""
    if at is None:
        return el("span", never, class_="muted")
    return el("time", at.replace("T", " "), datetime=at)


def spelled(state: str) -> str:
    """`not ready`."""
    return state.replace("_", " ")


def badge(state: str) -> Markup:
    """A state with its colour beside it."""
    words = meaning(state)
    return el("span", el("i", class_="dot"), spelled(state), class_=f"state {state}", title=words or None)


def drift_mark(node: NodeStatus) -> Markup | None:
    """Beside the state of a node on whose disk files were changed."""
    return el("span", "drifted", class_="mark", title=", ".join(node.drifted)) if node.drifted else None


def meaning(state: str) -> str:
    """What a state of a node means, `""` for an unknown one."""
    return next((facts.meaning for known, facts in NODE_STATES.items() if known == state), "")


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


def node_link(identifier: str) -> Markup:
    """A link to the view of a node."""
    return el("a", identifier, href=query(node=identifier), class_="words")


def chips(nodes: Iterable[MissingNode]) -> Markup:
    """Missing nodes, with the time at which the server last saw each."""
    return el(
        "ul",
        [
            el("li", node_link(one.identifier), " ", el("small", when(one.last_seen, "never seen")))
            for one in nodes
        ],
        class_="chips",
    )


def section(key: str, *children: Child, class_: str = "card", hidden: bool = False) -> Markup:
    """A section with the id `key`."""
    return el("section", children, id=key, class_=class_, hidden=hidden)


def crumbs(here: str) -> Markup:
    """The link back to the first view."""
    return el("p", el("a", "Fleet", href="./"), f" / {here}", class_="crumbs")


def data_table(class_: str, columns: Sequence[str], rows: Sequence[Sequence[Child]]) -> Markup:
    """A table; on a narrow screen each cell shows the name of its column."""
    body: Child = [
        el("tr", [el("td", cell, data_name=name) for name, cell in zip(columns, cells, strict=True)])
        for cells in rows
    ]
    return el(
        "table",
        el("thead", el("tr", [el("th", name, scope="col") for name in columns])),
        el("tbody", body or el("tr", el("td", "none yet", colspan=len(columns), class_="muted"))),
        class_=class_,
    )


def pager(
    is_further: bool, after: str | None, place: str = "", /, **values: str | int | None
) -> Markup | None:
    """Links to the first and the next page of a list, None for a list of one page."""
    if not is_further and after is None:
        return None
    return el(
        "nav",
        el("a", "first", href=query(**values) + place) if is_further else None,
        " ",
        el("a", "next", href=query(**values, after=after) + place) if after else None,
        class_="pager",
        aria_label="Further nodes",
    )
