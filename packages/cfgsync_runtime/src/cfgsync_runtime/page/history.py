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

from .formatting import NOT_SHOWN, crumbs, data_table, many, node_link, pager, section, size, when
from .markup import Child, Markup, el, query
from .text_diff import LineBudget, text_diff

HEADS_SHOWN: Final = 8


def generations(heads: Sequence[GenerationSummary], *, hidden: bool = False) -> Markup:
    """The section of the first view, the newest generation first. `hidden` for a source that has none."""
    before = dict(pairwise([one.number for one in heads if one.contents]))
    first, rest = heads[:HEADS_SHOWN], heads[HEADS_SHOWN:]
    older = el("summary", f"{len(rest)} older")
    return section(
        "generations",
        el("h2", "Generations ", el("small", f"{len(heads):,}")),
        _heads(first, before),
        el("details", older, _heads(rest, before), id="older") if rest else None,
        hidden=hidden,
    )


def _heads(heads: Sequence[GenerationSummary], before: dict[int, int]) -> Markup:
    rows: list[tuple[Child, ...]] = []
    for one in heads:
        files: Child = el("span", "no longer held", class_="muted")
        if one.contents:
            files = el("a", "held", href=query(generation=one.number))
        if (earlier := before.get(one.number)) is not None:
            changed = query(**{"from": earlier, "to": one.number})
            files = (files, " · ", el("a", f"what changed since {earlier}", href=changed))
        rows.append((str(one.number), when(one.at), f"{one.nodes:,}", _made_from(one), files, one.outcome))
    titles = ("generation", "made", "nodes", "from", "files", "rollout")
    shown = len(titles) if any(one.outcome for one in heads) else len(titles) - 1  # else no node takes turns
    return data_table("heads", titles[:shown], [row[:shown] for row in rows])


def _made_from(one: GenerationSummary) -> str:
    replaced = f", {many(len(one.replaced), 'replacement')}" if one.replaced else ""
    return f"claim {one.claim}, {one.made_from}{replaced}"


def generation_view(page: GenerationPage, after: str) -> list[Markup]:
    """One generation whose files are held: the files of each node. `page` has no contents."""
    one = page.generation
    assert one is not None  # it is held
    shared = ", ".join(file.path for file in page.shared)
    rows = [
        (
            node_link(node.identifier),
            el("span", ", ".join(file.path for file in node.files) or "none of its own", class_="words"),
            # a secret's size is not shown, and neither is a sum that includes it
            size(sum(file.size for file in node.files if file.omitted != "secret")),
        )
        for node in page.nodes
    ]
    made = (many(one.nodes, "node"), ", made ", when(one.at), f", from {_made_from(one)}.")
    return [
        section(
            "generation",
            crumbs("generation"),
            el("h1", f"Generation {one.number}"),
            el("p", made, class_="said"),
            el("p", "Shared with all: ", el("code", shared, class_="words")) if shared else None,
        ),
        section(
            "nodes",
            el("h2", "Files of each node ", el("small", "secrets are named, and their size is not counted")),
            data_table("nodes", ("node", "files", "size"), rows),
            pager(bool(after), page.next, generation=one.number),
        ),
    ]


def difference_view(page: DiffPage, after: str, *, operator: bool) -> list[Markup]:
    """What differs between two generations. An operator sees the lines that differ, but of a secret only that it does."""
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
    made = (
        f"Generation {old} has {many(page.before.nodes, 'node')}, made ",
        when(page.before.at),
        f"; generation {new} has {page.after.nodes:,}, made ",
        when(page.after.at),
        ".",
    )
    hidden = None if operator else NOT_SHOWN
    return [
        section(
            "difference",
            crumbs("generations"),
            el("h1", f"What changed from generation {old} to {new}"),
            el("p", made, class_="said"),
            el("p", hidden, class_="muted") if hidden else None,
        ),
        section(
            "changes",
            changes or el("p", nothing, class_="muted"),
            pager(bool(after), page.next, **{"from": old, "to": new}),
        ),
    ]


def _node(node: NodeChange) -> Markup:
    mark = {"added": "new", "removed": "gone", "changed": None}[node.change]
    return el(
        "h3", node_link(node.identifier), el("span", mark, class_=f"mark {node.change}") if mark else None
    )


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
