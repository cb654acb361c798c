"""The sections of `/documents`. Each value of the history is shown as what it changed, with the command that rolls it back."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

import msgspec

from cfgsync_documents import Document, DocumentName, Scope
from cfgsync_documents.service import HistoryEntry, ScopeSnapshot, ScopeState

from ..formatting import data_table, many, pager, section, size, when
from ..markup import Child, Markup, el, query
from ..text_diff import LineBudget, text_diff

SCOPES: Final = 200
"""Scopes that are listed."""
ROWS: Final = 100
PAST: Final = 20
"""Values of the history that are shown; the command has all."""
SHOWN_BYTES: Final = 64 * 1024
NO_VALUES: Final = (
    "Values are not shown here: log in with the token of a reader of all documents, or on the server's machine use"
    " cfgsync config."
)


def scopes_view(states: Sequence[tuple[Scope, ScopeState]], of: int) -> list[Markup]:
    """Every app and environment."""
    rows = [
        (
            el("a", scope.app, href=query(app=scope.app, env=scope.environment), class_="words"),
            el("a", scope.environment, href=query(app=scope.app, env=scope.environment), class_="words"),
            f"{len(state.revisions):,}",
            str(state.version.revision),
        )
        for scope, state in states
    ]
    cut = f"The first {len(states):,} of {of:,}." if of > len(states) else None
    return [
        section(
            "scopes",
            el("h1", "Config documents"),
            el("p", cut, class_="muted") if cut else None,
            data_table("scopes", ("app", "environment", "documents", "revision"), rows),
        )
    ]


def scope_view(scope: Scope, found: ScopeSnapshot, after: str) -> list[Markup]:
    """The documents of one scope, without values."""
    later = [one for one in found.documents if one.name.key > after]
    rows = [
        (one.name.namespace, _link(one.name), str(one.revision), one.by, when(one.updated_at))
        for one in sorted(later, key=lambda one: one.name.key)[:ROWS]
    ]
    further = sorted(one.name.key for one in later)[ROWS - 1] if len(later) > ROWS else None
    return [
        section(
            "scope",
            _crumbs(scope, None),
            el("h1", f"{scope.environment} ", el("small", f"app {scope.app}"), class_="words"),
            el(
                "p",
                f"{many(len(found.documents), 'document')}, revision {found.version.revision}.",
                class_="said",
            ),
        ),
        section(
            "documents",
            data_table("documents", ("namespace", "name", "revision", "by", "written"), rows),
            pager(bool(after), further, app=scope.app, env=scope.environment),
        ),
    ]


def document_view(
    name: DocumentName, one: Document | None, past: Sequence[HistoryEntry], *, reads: bool
) -> list[Markup]:
    """One document: its value and its history, for those who may read them."""
    facts = "There is no such document." if one is None else f"Revision {one.revision}, written by {one.by} "
    return [
        section(
            "document",
            _crumbs(name.scope, name),
            el("h1", f"{name.name} ", el("small", f"namespace {name.namespace}"), class_="words"),
            el("p", facts, None if one is None else when(one.updated_at), class_="said"),
            None if reads else el("p", NO_VALUES, class_="muted"),
        ),
        section("value", el("h2", "Value"), _value(one)) if reads else section("value", hidden=True),
        section(
            "history",
            el("h2", "History ", el("small", "newest first")),
            _history(name, past, reads),
        ),
    ]


def _value(one: Document | None) -> Markup:
    if one is None:
        return el("p", "absent", class_="muted")
    if len(one.data) > SHOWN_BYTES:
        return el("p", f"{size(len(one.data))}, too large to show", class_="muted")
    return el("pre", "\n", _pretty(one.data))


def _history(name: DocumentName, past: Sequence[HistoryEntry], reads: bool) -> list[Markup]:
    budget = LineBudget()
    befores = [*past[1:], None]  # one more than is shown is known
    shown: list[Markup] = []
    for entry, before in zip(past[:PAST], befores, strict=False):
        head: list[Child] = [
            f"revision {entry.revision} ",
            el("small", when(entry.updated_at), f" · {entry.by}" if entry.by else None),
        ]
        if entry.data is None:
            shown.append(el("p", head, el("span", "deleted", class_="mark removed"), class_="file"))
            continue
        back = el("p", el("code", _rollback(name, entry.revision), class_="words"))
        changed = _changed(before, entry.data, budget) if reads else None
        lines = el("pre", changed, class_="lines") if changed is not None else None
        shown.append(el("details", el("summary", head), lines, back, class_="file", id=f"r{entry.revision}"))
    return shown or [el("p", "none yet", class_="muted")]


def _changed(before: HistoryEntry | None, data: bytes, budget: LineBudget) -> list[Markup] | None:
    if len(data) > SHOWN_BYTES or (before is not None and len(before.data or b"") > SHOWN_BYTES):
        return None
    old = "" if before is None or before.data is None else _pretty(before.data)
    return text_diff(old, _pretty(data), budget)


def _pretty(data: bytes) -> str:
    return msgspec.json.format(data, indent=2).decode()


def _rollback(name: DocumentName, revision: int) -> str:
    """The command, on the server's machine."""
    flags = ["--env", name.scope.environment]
    for flag, word in (("--app", name.scope.app), ("--namespace", name.namespace)):
        flags += [flag, word] if word != "default" else []
    return shlex.join(["cfgsync", "config", "rollback", name.name, str(revision), *flags])


def _link(name: DocumentName) -> Markup:
    words = {
        "app": name.scope.app,
        "env": name.scope.environment,
        "namespace": name.namespace,
        "name": name.name,
    }
    return el("a", name.name, href=query(**words), class_="words")


def _crumbs(scope: Scope, name: DocumentName | None) -> Markup:
    here = (
        str(scope) if name is None else el("a", str(scope), href=query(app=scope.app, env=scope.environment))
    )
    last = None if name is None else f" / {name.key}"
    return el("p", el("a", "Documents", href="documents"), " / ", here, last, class_="crumbs")
