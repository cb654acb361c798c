"""The first view: the state of the fleet and why, the state of each node, and the generations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from cfgsync_adapter.status import GenerationSummary
from cfgsync_core import Condition, FleetStatus
from cfgsync_core.wire import NODE_STATES

from .formatting import badge, chips, many, number, section, spelled
from .grid import grid
from .history import generations
from .markup import Child, Markup, el, query
from .node import MISSING_SHOWN
from .rollout import rollout
from .scan import FleetScan, is_cut, missing_names
from .table import NodeTable, table

_BAR: Final = 1000
Severity = Literal["good", "wait", "bad", "calm"]


def overview(fleet: FleetScan, nodes: NodeTable, heads: Sequence[GenerationSummary] | None) -> list[Markup]:
    """The sections; `heads` None for a source that has no generations."""
    static = heads is None
    return [
        _verdict(fleet, static),
        _insecure(fleet.status),
        _certificate(fleet.status),
        _servers(fleet.status),
        _why(fleet.status),
        rollout(fleet.status),
        _counts(fleet, nodes.state, static),
        table(nodes),
        grid(fleet, nodes.find),
        generations(heads or (), hidden=static),
    ]


def title_of(fleet: FleetScan, *, static: bool) -> str:
    """The title of the browser's tab: the state of the fleet."""
    return _summary(fleet, static)[1]


def _verdict(fleet: FleetScan, static: bool) -> Markup:
    severity, title, lines = _summary(fleet, static)
    text = [[el("br") if at else None, line] for at, line in enumerate(lines)]
    state = spelled(fleet.status.state)
    known = el("span", state, class_="mark") if state != title.lower() else None
    return section(
        "verdict",
        el("div", _icon(severity), class_="icon"),
        el("div", el("h1", title, known), el("p", text, class_="said") if text else None),
        class_=f"card verdict {severity}",
    )


def _summary(fleet: FleetScan, static: bool) -> tuple[Severity, str, list[Child]]:
    """How good the state of the fleet is, its title, and the lines below the title."""
    status = fleet.status
    which = "the bundle" if static else f"generation {number(status.generation)}"
    served = static or status.generation is not None
    lines: list[Child] = (
        [el("span", status.reason, class_="words")] if status.reason and not status.pending else []
    )
    match status.state:
        case "converged" | "converging":
            severity, title, now = _progress(fleet, which)
            return severity, title, [now, *lines, *_drifted(status)]
    if served and not static:
        lines.append(f"{which.capitalize()} is still served.")
    match status.state:
        case "failed":
            return "bad", "The newest run failed" if served else "The materializer fails", lines
        case "not_ready" if status.pending:
            return "calm", f"The {'next' if served else 'first'} generation is being made", lines
        case "not_ready":
            return "wait", "The next generation is not ready" if served else "Not ready", lines
    if status.missing:
        return "wait", "Not ready", lines
    return "calm", "The bundle has no nodes" if static else "No node is registered", lines


def _drifted(status: FleetStatus) -> list[Markup]:
    if not status.drifted:
        return []
    named = ", ".join(f"{node.identifier} ({', '.join(node.paths)})" for node in status.drifted)
    count = status.drifted_count or 0
    more = f" and {count - len(status.drifted):,} more" if count > len(status.drifted) else ""
    return [el("span", f"Files were changed on {many(count, 'node')}: {named}{more}", class_="words bad")]


def _progress(fleet: FleetScan, which: str) -> tuple[Severity, str, str]:
    """The same for a fleet to which all files are offered: how many nodes have applied them."""
    counts, behind = fleet.counts, fleet.status.behind_count
    without = f" {_have(counts['no_files'], 'node')} no files from it." if counts["no_files"] else ""
    if not behind and not counts["applied"]:
        return (
            "bad",
            "No node gets any files",
            f"{which.capitalize()} leaves out every node that is registered.",
        )
    if not behind:
        headline = "Every node that gets files has them" if without else "Every node has its files"
        is_changed = bool(fleet.status.drifted)
        return (
            "wait" if is_changed else "good",
            "Files were changed on some nodes" if is_changed else headline,
            f"{'Each of them' if without else 'Every node'} has applied {which}.{without}",
        )
    failed = counts["not_applied"]
    now = f"{which.capitalize()} is served. {_have(behind, 'node')} not applied it yet"
    if failed == behind:
        now = f"{which.capitalize()} is served. {many(failed, 'node')} could not apply it"
    elif failed:
        now += f"; {failed:,} of them could not"
    if failed:
        which_nodes = "A node could not apply its" if failed == 1 else "Some nodes could not apply their"
        return "bad", f"{which_nodes} files", f"{now}.{without}"
    return "calm", "Converging", f"{now}.{without}"


def _have(count: int, noun: str) -> str:
    return f"{many(count, noun)} {'has' if count == 1 else 'have'}"


def _icon(severity: Severity) -> Markup:
    paths: dict[Severity, str] = {
        "good": "M10 16.5l4.2 4.2L22 12.5",
        "wait": "M16 9.5v7l4.5 2.7",
        "bad": "M11.5 11.5l9 9M20.5 11.5l-9 9",
        "calm": "M10 16h12",
    }
    ring = el("circle", cx="16", cy="16", r="13")
    return el("svg", ring, el("path", d=paths[severity]), viewBox="0 0 32 32", aria_hidden="true")


def _insecure(status: FleetStatus) -> Markup:
    lacking = status.insecure or ()
    return section(
        "insecure",
        el("strong", "Insecure: "),
        "this server is open to other machines with ",
        " and ".join(f"--insecure-{word}" for word in lacking),
        ". Anyone with access to it sees this page; contents of files are shown on the server's own machine only.",
        class_="card note bad",
        hidden=not lacking,
    )


def _certificate(status: FleetStatus) -> Markup:
    warning = status.tls.warning if status.tls else ""
    return section(
        "certificate",
        el("strong", "Certificate of this server: "),
        f"{warning}.",
        class_="card note bad",
        hidden=not warning,
    )


def _servers(status: FleetStatus) -> Markup:
    servers = status.servers or ()
    bad = any(one.is_silent for one in servers)
    return section(
        "servers",
        el("strong", "Servers of this fleet: "),
        f"{'; '.join(one.words for one in servers)}.",
        class_="card note bad" if bad else "card note",
        hidden=len(servers) < 2,
    )


def _why(status: FleetStatus) -> Markup:
    return section(
        "why",
        el("h2", "Why it is not ready"),
        [_condition(condition) for condition in status.conditions],
        _missing(status),
        hidden=not status.conditions and not status.missing,
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


def _missing(status: FleetStatus) -> Markup | None:
    missing, of = status.missing, len(missing_names(status))
    if not missing:
        return None
    rest = missing[MISSING_SHOWN:]
    summary = el("summary", f"{of - MISSING_SHOWN:,} more")
    cut = el("p", "and more nodes that are not named here") if is_cut(status) or of > len(missing) else None
    return el(
        "div",
        el("h3", f"Missing: {'at least ' if is_cut(status) else ''}{many(of, 'node')}"),
        chips(missing[:MISSING_SHOWN]),
        el("details", summary, chips(rest), cut, id="more-missing") if rest else None,
    )


def _counts(fleet: FleetScan, selected: str, static: bool) -> Markup:
    counts, whole = fleet.counts, max(len(fleet.names), 1)
    stripes, at = [], 0
    for state in reversed(NODE_STATES):  # the furthest come first, and the failures last
        upto = at + counts[state]
        left, right = _BAR * at // whole, _BAR * upto // whole
        if upto > at:
            stripes.append(el("rect", x=left, width=max(right - left, 2), height=10, class_=state))
        at = upto
    cut = "+" if is_cut(fleet.status) else None
    status = fleet.status
    held = status.waiting and status.state != "converged"
    here = (
        many(fleet.nodes, "node")
        if static
        else f"{status.registered:,} registered"
        + (f", {many(status.waiting, 'held request')}" if held else "")
    )
    label = ", ".join(f"{counts[state]:,} {spelled(state)}" for state in NODE_STATES)
    tiles = [
        el(
            "a",
            el("b", f"{counts[state]:,}", cut if state == "not_registered" else None),
            badge(state),
            href="./" if selected == state else query(state=state),
            class_="tile" if counts[state] else "tile none",
            aria_current="true" if selected == state else None,
        )
        for state in NODE_STATES
    ]
    return section(
        "counts",
        el("h2", "Fleet ", el("small", here)),
        el(
            "svg",
            stripes,
            viewBox=f"0 0 {_BAR} 10",
            preserveAspectRatio="none",
            class_="stripe",
            role="img",
            aria_label=label,
        ),
        el("nav", tiles, class_="tiles", aria_label="Nodes by state"),
    )
