"""One node: its state, the reason, and the files that the current generation gives it; of a secret only the name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from cfgsync_adapter.status import FileSummary, NodeContents
from cfgsync_core import NodeRegistration, NodeStatus
from cfgsync_core.wire import last_seen

from .formatting import (
    NOT_SHOWN,
    NOT_SHOWN_OF_A_BUNDLE,
    badge,
    chips,
    crumbs,
    drift_mark,
    many,
    number,
    section,
    size,
    when,
)
from .markup import Child, Markup, el

MISSING_SHOWN: Final = 60
_OMITTED: Final[Mapping[str | None, str]] = {"binary": " · binary", "large": " · too large to show"}


class NodeFiles(msgspec.Struct, frozen=True):
    """The files that a node is given, with contents where the reader may see them. `generation` is None for a bundle."""

    generation: str | None
    node: NodeContents
    shared: tuple[FileSummary, ...]


def node_view(
    node: NodeStatus,
    registration: NodeRegistration | None,
    files: NodeFiles | None,
    *,
    operator: bool,
    static: bool,
) -> list[Markup]:
    """The sections. Metadata and contents are for an operator only."""
    facts: list[tuple[str, Child]] = [
        ("registered", "yes" if node.registered else "no"),
        ("last seen", when(node.last_seen, last_seen(node))),
        ("request held", "yes" if node.waiting else "no"),
        ("served", number(node.served)),
        ("applied", number(node.applied)),
    ]
    if registration is not None:
        facts.insert(0, ("address", registration.ip))
        if operator and registration.metadata is not None:
            shown = msgspec.json.format(msgspec.json.encode(registration.metadata), indent=2).decode()
            facts.append(("metadata", el("pre", "\n", shown)))
    if node.last_failure:
        facts.append(("last failure", el("span", node.last_failure, class_="words")))
    if node.drifted:
        facts.append(("changed on its disk", el("span", ", ".join(node.drifted), class_="words")))
    if node.rebound:
        facts.append(("another secret took it", many(int(node.rebound), "time")))
    return [
        section(
            "node",
            crumbs("node"),
            el("h1", node.identifier, " ", badge(node.state), drift_mark(node), class_="words"),
            el("p", el("span", node.reason or "its files are ready", class_="words"), class_="said"),
        ),
        section(
            "known",
            el("h2", "Facts"),
            el("dl", [(el("dt", name), el("dd", value)) for name, value in facts]),
            _missing(node),
        ),
        _files(files, operator, static),
    ]


def _missing(node: NodeStatus) -> Markup | None:
    if not node.missing:
        return None
    more = len(node.missing) - MISSING_SHOWN
    return el(
        "div",
        el("h3", "It waits for"),
        chips(node.missing[:MISSING_SHOWN]),
        f"and {more:,} more" if more > 0 else None,
    )


def _files(files: NodeFiles | None, operator: bool, static: bool) -> Markup:
    if files is None:
        why = f"The {'bundle' if static else 'current generation'} gives it no files."
        return section("files", el("h2", "Files"), el("p", why, class_="muted"))
    note = (
        "A secret (a file that only its owner may read) is never shown."
        if operator
        else f"{NOT_SHOWN_OF_A_BUNDLE if static else NOT_SHOWN} A secret is never shown."
    )
    replaced = " An operator replaced its own files (cfgsync node replace)." if files.node.replaced else None
    return section(
        "files",
        el(
            "h2",
            "Files ",
            el("small", f"generation {number(files.generation)}") if files.generation else None,
        ),
        el("p", note, replaced, class_="muted"),
        el("h3", "Its own"),
        [file_view(file, f"own-{at}", operator) for at, file in enumerate(files.node.files)]
        or el("p", "none", class_="muted"),
        el("h3", "Shared with all") if files.shared else None,
        [file_view(file, f"shared-{at}", operator) for at, file in enumerate(files.shared)],
    )


def file_view(file: FileSummary, key: str, operator: bool) -> Markup:
    """One file: path, mode, size, and its content where the reader may see it; of a secret only path and mode, since a
    reader could confirm a guess with its size. `key` is an id that stays when the file changes."""
    name = el("code", file.path, class_="words")
    if file.omitted == "secret":
        return el("p", name, el("small", file.mode), el("span", "secret", class_="mark"), class_="file")
    facts = el("small", f"{file.mode} · {size(file.size)}")
    if not operator or file.content is None:
        why = _OMITTED.get(file.omitted) if operator else None
        return el("p", name, facts, el("small", why) if why else None, class_="file")
    return el("details", el("summary", name, facts), el("pre", "\n", file.content), class_="file", id=key)
