"""Generations: the list of them, one of them, and what differs between two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from cfgsync_adapter.status import (
    DiffPage,
    FileChange,
    FileSummary,
    GenerationPage,
    GenerationSummary,
    NodeChange,
)

from .formatting import many, size, when
from .markup import Child, Markup, el, query
from .text_diff import LineBudget, text_diff

HEADS_SHOWN: Final = 8


def generations(heads: Sequence[GenerationSummary], *, hidden: bool = False) -> Markup:
    """The section of the first view, the newest generation first. `hidden` for a source that has none."""
    held = [one.number for one in heads if one.contents]
    before = dict(pairwise(held))
    first, rest = heads[:HEADS_SHOWN], heads[HEADS_SHOWN:]
    return el(
        "section",
        el("h2", "Generations ", el("small", f"{len(heads):,}")),
        el("p", "There is none yet.", class_="muted") if not heads else _heads(first, before),
        el("details", el("summary", f"{len(rest)} older"), _heads(rest, before), id="older")
        if rest
        else None,
        id="generations",
        class_="card",
        hidden=hidden,
    )


def _heads(heads: Sequence[GenerationSummary], before: dict[int, int]) -> Markup:
    names = ("generation", "made", "nodes", "from", "files")
    rows = []
    for one in heads:
        what: Child = el("span", "no longer held", class_="muted")
        if one.contents:
            what = el("a", "held", href=query(generation=one.number))
        if (earlier := before.get(one.number)) is not None:
            what = [
                what,
                " · ",
                el("a", f"what changed since {earlier}", href=query(**{"from": earlier, "to": one.number})),
            ]
        cells: tuple[Child, ...] = (
            str(one.number),
            when(one.at),
            f"{one.nodes:,}",
            _made_from(one),
            what,
        )
        rows.append(
            el("tr", [el("td", cell, data_name=name) for name, cell in zip(names, cells, strict=True)])
        )
    head = el("thead", el("tr", [el("th", name, scope="col") for name in names]))
    return el("table", head, el("tbody", rows), class_="heads")


def _made_from(one: GenerationSummary) -> str:
    by_hand = f", {many(len(one.replaced), 'replacement')}" if one.replaced else ""
    return f"claim {one.claim}, registrations {one.registrations.rpartition('.')[2]}{by_hand}"


def generation_view(page: GenerationPage, after: str) -> list[Markup]:
    """One generation whose files are held: which node gets which files. `page` has no contents."""
    one = page.generation
    assert one is not None  # it is held
    names = ("node", "files", "size")
    rows = [
        el(
            "tr",
            el("td", el("a", node.identifier, href=query(node=node.identifier)), data_name=names[0]),
            el(
                "td",
                ", ".join(file.path for file in node.files) or "none of its own",
                data_name=names[1],
                class_="words",
            ),
            # a secret's size is not shown, and neither is a sum that includes it
            el(
                "td",
                size(sum(file.size for file in node.files if file.omitted != "secret")),
                data_name=names[2],
            ),
        )
        for node in page.nodes
    ]
    shared = ", ".join(file.path for file in page.shared)
    return [
        el(
            "section",
            el("p", el("a", "Fleet", href="./"), " / generation", class_="crumbs"),
            el("h1", f"Generation {one.number}"),
            el(
                "p",
                many(one.nodes, "node"),
                ", made ",
                when(one.at),
                f", from {_made_from(one)}.",
                class_="said",
            ),
            el("p", "Shared with all: ", el("code", shared, class_="words")) if shared else None,
            id="generation",
            class_="card",
        ),
        el(
            "section",
            el("h2", "Files of each node ", el("small", "secrets are named, and their size is not counted")),
            el(
                "table",
                el("thead", el("tr", [el("th", name, scope="col") for name in names])),
                el("tbody", rows),
                class_="nodes",
            ),
            _more(after, page.next, generation=one.number),
            id="nodes",
            class_="card",
        ),
    ]


def difference_view(page: DiffPage, after: str, *, operator: bool) -> list[Markup]:
    """What differs between two generations: for an operator the lines of the contents, and of a secret only that it
    differs."""
    old, new = page.before.number, page.after.number
    budget = LineBudget()
    changes: list[Markup] = []
    if page.shared:
        changes.append(el("h3", "Shared with all"))
        changes += [_file(change, operator, budget) for change in page.shared]
    for node in page.nodes:
        changes.append(_node(node))
        changes += [_file(change, operator, budget) for change in node.files]
    nothing = "Every node has the same files in both." if not after else "That is all."
    return [
        el(
            "section",
            el("p", el("a", "Fleet", href="./"), " / generations", class_="crumbs"),
            el("h1", f"What changed from generation {old} to {new}"),
            el(
                "p",
                f"Generation {old} has {many(page.before.nodes, 'node')}, made ",
                when(page.before.at),
                f"; generation {new} has {page.after.nodes:,}, made ",
                when(page.after.at),
                ".",
                class_="said",
            ),
            None
            if operator
            else el("p", "Contents are shown on the server's own machine only.", class_="muted"),
            id="difference",
            class_="card",
        ),
        el(
            "section",
            changes or el("p", nothing, class_="muted"),
            _more(after, page.next, **{"from": old, "to": new}),
            id="changes",
            class_="card",
        ),
    ]


def _node(node: NodeChange) -> Markup:
    mark = {"added": "new", "removed": "gone", "changed": None}[node.change]
    name = el("a", node.identifier, href=query(node=node.identifier), class_="words")
    return el("h3", name, el("span", mark, class_=f"mark {node.change}") if mark else None)


def _file(change: FileChange, operator: bool, budget: LineBudget) -> Markup:
    one, other = change.before, change.after
    name = el("code", change.path, class_="words")
    mark = el("span", change.change, class_=f"mark {change.change}")
    if any(file is not None and file.omitted == "secret" for file in (one, other)):
        return el("p", name, mark, el("span", "secret", class_="mark"), class_="file")
    sizes = el("small", " → ".join(f"{file.mode} · {size(file.size)}" for file in (one, other) if file))
    lines = text_diff(_text(one), _text(other), budget) if operator else None
    if lines is None:
        return el("p", name, mark, sizes, class_="file")
    return el("div", el("p", name, mark, sizes), el("pre", lines, class_="lines"), class_="file")


def _text(file: FileSummary | None) -> str | None:
    return "" if file is None else file.content


def _more(after: str, further: str | None, **values: int) -> Markup | None:
    if not after and further is None:
        return None
    links = (
        el("a", "first", href=query(**values)) if after else None,
        " ",
        el("a", "next", href=query(**values, after=further)) if further else None,
    )
    return el("nav", links, class_="pager", aria_label="Further nodes")
