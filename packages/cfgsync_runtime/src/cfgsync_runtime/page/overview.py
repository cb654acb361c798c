"""The first view: is it ready, why not, where each node stands, and which generations there were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from cfgsync_adapter import GenerationSummary
from cfgsync_core import Condition, FleetStatus

from .grid import grid
from .history import generations
from .markup import Child, Markup, el, query
from .survey import KINDS, Fleet, Kind, is_cut, named_missing
from .table import NodeTable, table
from .words import badge, many, number, when

MISSING_SHOWN: Final = 60
_BAR: Final = 1000
_ORDER: Final[tuple[Kind, ...]] = ("applied", "served", "waiting", "registered", "missing", "failed")
"""What is done comes first, from the left."""

Mood = Literal["good", "wait", "bad", "calm"]


def overview(fleet: Fleet, rows: NodeTable, heads: Sequence[GenerationSummary] | None) -> list[Markup]:
    """The sections; `heads` None for a source that has no generations."""
    static = heads is None
    return [
        _verdict(fleet, static),
        _insecure(fleet.head),
        _why(fleet.head),
        _counts(fleet, rows.kind, hidden=static),
        grid(fleet, static),
        generations(heads or (), hidden=static),
        table(rows, fleet.head.reason, static),
    ]


def title_of(fleet: Fleet, *, static: bool) -> str:
    """What the browser's tab says: the verdict."""
    return _said(fleet, static)[1]


def _verdict(fleet: Fleet, static: bool) -> Markup:
    mood, title, text = _said(fleet, static)
    return el(
        "section",
        el("div", _icon(mood), class_="icon"),
        el("div", el("h1", title), el("p", text, class_="said") if text else None),
        id="verdict",
        class_=f"card verdict {mood}",
    )


def _said(fleet: Fleet, static: bool) -> tuple[Mood, str, Child]:
    head, counts = fleet.head, fleet.counts
    if static:
        return (
            "calm",
            "A bundle is served",
            f"{many(fleet.nodes, 'node')}; nobody has to be waited for. Who has fetched what is not kept.",
        )
    which = f"generation {number(head.generation)}"
    if head.converged:
        return "good", "Everybody has its files", f"Every node has applied {which}."
    if not head.reason:
        behind = f"{many(head.behind_count, 'node')} {'has' if head.behind_count == 1 else 'have'} not acknowledged"
        if counts["failed"]:
            failing = f"{many(counts['failed'], 'node')} could not apply it, or can be given nothing."
            return "bad", "Ready, and not applied everywhere", f"{which.capitalize()} is served. {failing}"
        return "good", "Ready", f"{which.capitalize()} is served. {behind} it yet."
    failed = head.reason.startswith("failed to materialize")
    reason = el("span", head.reason, class_="words")
    if head.generation is None:
        if not head.registered and not head.missing:
            return "calm", "Nobody is here yet", reason
        if head.reason == "materializing":
            return "calm", "The first generation is being made", None
        return ("bad", "The materializer fails", reason) if failed else ("wait", "Not ready", reason)
    still = f"{which.capitalize()} is still served."
    if head.reason == "materializing":
        return "calm", "The next generation is being made", still
    title = "The newest run failed" if failed else "The next generation is not ready"
    return "bad" if failed else "wait", title, (reason, el("br"), still)


def _icon(mood: Mood) -> Markup:
    paths: dict[Mood, str] = {
        "good": "M10 16.5l4.2 4.2L22 12.5",
        "wait": "M16 9.5v7l4.5 2.7",
        "bad": "M11.5 11.5l9 9M20.5 11.5l-9 9",
        "calm": "M10 16h12",
    }
    ring = el("circle", cx="16", cy="16", r="13")
    return el("svg", ring, el("path", d=paths[mood]), viewBox="0 0 32 32", aria_hidden="true")


def _insecure(head: FleetStatus) -> Markup:
    lacking = head.insecure or ()
    return el(
        "section",
        el("strong", "Insecure: "),
        "this server is open to other machines with ",
        " and ".join(f"--insecure-{word}" for word in lacking),
        ". Whoever reaches it sees this page; contents of files are shown on the server's own machine only.",
        id="insecure",
        class_="card note bad",
        hidden=not lacking,
    )


def _why(head: FleetStatus) -> Markup:
    return el(
        "section",
        el("h2", "Why it is not ready"),
        [_condition(condition) for condition in head.conditions],
        _missing(head),
        id="why",
        class_="card",
        hidden=not head.conditions and not head.missing,
    )


def _condition(condition: Condition) -> Markup:
    need = max(condition.need, 1)
    filled = min(_BAR, _BAR * max(condition.have, 0) // need)
    return el(
        "div",
        el("p", el("b", condition.name, class_="words"), f" {condition.have:,} of {condition.need:,}"),
        el(
            "svg",
            el("rect", width=_BAR, height=8, class_="rest"),
            el("rect", width=filled, height=8, class_="filled"),
            viewBox=f"0 0 {_BAR} 8",
            preserveAspectRatio="none",
            class_="meter",
            aria_hidden="true",
        ),
        class_="condition",
    )


def _missing(head: FleetStatus) -> Markup | None:
    missing, of = head.missing, len(named_missing(head))
    if not missing:
        return None
    chips = [
        el(
            "li",
            el("a", one.identifier, href=query(node=one.identifier), class_="words"),
            " ",
            el("small", when(one.last_seen, "never seen")),
        )
        for one in missing
    ]
    first, rest = chips[:MISSING_SHOWN], chips[MISSING_SHOWN:]
    summary = el("summary", f"{of - len(first):,} more")
    cut = el("p", "and those who are not named here") if is_cut(head) or of > len(missing) else None
    return el(
        "div",
        el("h3", f"Missing: {'at least ' if is_cut(head) else ''}{many(of, 'node')}"),
        el("ul", first, class_="chips"),
        el("details", summary, el("ul", rest, class_="chips"), cut, id="more-missing") if rest else None,
    )


def _counts(fleet: Fleet, asked: Kind | None, *, hidden: bool) -> Markup:
    counts, whole = fleet.counts, max(len(fleet.names), 1)
    stripes: list[Markup] = []
    at = 0
    for kind in _ORDER:
        upto = at + counts[kind]
        left, right = _BAR * at // whole, _BAR * upto // whole
        if upto > at:
            stripes.append(el("rect", x=left, width=max(right - left, 2), height=10, class_=kind))
        at = upto
    said = ", ".join(f"{counts[kind]:,} {kind}" for kind in KINDS)
    tiles = [
        el(
            "a",
            el("b", f"{counts[kind]:,}", "+" if kind == "missing" and is_cut(fleet.head) else None),
            badge(kind),
            href="./" if asked == kind else query(state=kind),
            class_="tile" if counts[kind] else "tile none",
            aria_current="true" if asked == kind else None,
        )
        for kind in KINDS
    ]
    return el(
        "section",
        el("h2", "Fleet ", el("small", many(fleet.nodes, "node"))),
        el(
            "svg",
            stripes,
            viewBox=f"0 0 {_BAR} 10",
            preserveAspectRatio="none",
            class_="stripe",
            role="img",
            aria_label=said,
        ),
        el("nav", tiles, class_="tiles", aria_label="Nodes by where they stand"),
        id="counts",
        class_="card",
        hidden=hidden,
    )
