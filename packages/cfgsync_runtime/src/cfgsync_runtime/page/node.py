"""One node: where it stands and why, and what the current generation gives it; a secret is named and never shown."""

from __future__ import annotations

from typing import Final

import msgspec

from cfgsync_adapter import FileSummary, NodeContents
from cfgsync_core import NodeRegistration, NodeStatus

from .markup import Child, Markup, el, query
from .survey import kind_of
from .words import IN_BUNDLE, badge, many, number, size, when


class Given(msgspec.Struct, frozen=True):
    """What a generation gives a node, with contents where the reader may see them."""

    generation: str
    node: NodeContents
    shared: tuple[FileSummary, ...]


IN_BUNDLE_BADGE: Final = el("small", IN_BUNDLE)
STRANGER: Final = el("small", "stranger", title="not registered, and not awaited")


def node_view(
    node: NodeStatus,
    registration: NodeRegistration | None,
    given: Given | None,
    *,
    operator: bool,
    static: bool,
    awaited: bool = False,
) -> list[Markup]:
    """The sections. `awaited`: a condition names it. `registration` is there for an operator only, who sees contents too."""
    in_bundle = static and node.state == "ready"
    known = badge(kind_of(node)) if node.registered or awaited else STRANGER
    facts: list[tuple[str, Child]] = [
        ("registered", "yes" if node.registered else "no"),
        ("last seen", when(node.last_seen, "never")),
        ("question held", "yes" if node.waiting else "no"),
        ("served", number(node.served)),
        ("applied", number(node.applied)),
    ]
    if registration is not None:
        facts.append(("address", registration.ip))
        if registration.metadata is not None:
            shown = msgspec.json.format(msgspec.json.encode(registration.metadata), indent=2).decode()
            facts.append(("metadata", el("pre", "\n", shown)))
    if node.last_failure:
        facts.append(("last failure", el("span", node.last_failure, class_="words")))
    if node.rebound:
        facts.append(("another secret took it", many(int(node.rebound), "time")))
    return [
        el(
            "section",
            el("p", el("a", "Fleet", href="./"), " / node", class_="crumbs"),
            el(
                "h1",
                node.identifier,
                " ",
                IN_BUNDLE_BADGE if in_bundle else known,
                class_="words",
            ),
            el("p", el("span", node.reason or "its files are ready", class_="words"), class_="said"),
            id="node",
            class_="card",
        ),
        el(
            "section",
            el("h2", "What is known of it"),
            el("dl", [(el("dt", name), el("dd", value)) for name, value in facts]),
            _missing(node),
            id="known",
            class_="card",
        ),
        _files(given, operator, static),
    ]


def _missing(node: NodeStatus) -> Markup | None:
    if not node.missing:
        return None
    named = [
        el(
            "li",
            el("a", one.identifier, href=query(node=one.identifier), class_="words"),
            " ",
            when(one.last_seen, "never seen"),
        )
        for one in node.missing[:60]
    ]
    more = len(node.missing) - len(named)
    return el(
        "div",
        el("h3", "It waits for"),
        el("ul", named, class_="chips"),
        f"and {more:,} more" if more else None,
    )


def _files(given: Given | None, operator: bool, static: bool) -> Markup:
    if given is None:
        why = (
            "What is in a bundle is not shown here."
            if static
            else "No generation that is served gives it files."
        )
        return el("section", el("h2", "Files"), el("p", why, class_="muted"), id="files", class_="card")
    note = (
        "A secret (a file that only its owner may read) is never shown."
        if operator
        else "Contents are shown on the server's own machine only, and a secret never."
    )
    return el(
        "section",
        el("h2", "Files ", el("small", f"generation {number(given.generation)}")),
        el(
            "p",
            note,
            " Its own are an operator's (cfgsync node replace)." if given.node.replaced else None,
            class_="muted",
        ),
        el("h3", "Its own"),
        [file_view(file, f"own-{at}", operator) for at, file in enumerate(given.node.files)]
        or el("p", "none", class_="muted"),
        el("h3", "Shared with all") if given.shared else None,
        [file_view(file, f"shared-{at}", operator) for at, file in enumerate(given.shared)],
        id="files",
        class_="card",
    )


def file_view(file: FileSummary, key: str, operator: bool) -> Markup:
    """One file: path, mode, size; its content where there is one to show. `key` is an id that stays when it changes.

    Of a secret neither content nor size nor digest: what can be guessed could be confirmed with them.
    """
    name = el("code", file.path, class_="words")
    if file.omitted == "secret":
        return el("p", name, el("small", file.mode), el("span", "secret", class_="mark"), class_="file")
    facts = el("small", f"{file.mode} · {size(file.size)}")
    if not operator or file.content is None:
        why = (
            {"binary": " · binary", "large": " · too large to show"}.get(file.omitted or "", "")
            if operator
            else ""
        )
        return el("p", name, facts, el("small", why) if why else None, class_="file")
    return el(
        "details",
        el("summary", name, facts),
        el("pre", "\n", file.content),
        class_="file",
        id=key,
    )
