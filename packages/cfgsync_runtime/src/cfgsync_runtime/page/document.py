"""The document around a view: head, bar, main, foot, and our style and script inline."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Final
from urllib.parse import quote

from .assets import assets
from .markup import Child, Markup, el

_MARK: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#2f5fd0"/>'
    '<g fill="none" stroke="#fff" stroke-width="2.5"><path d="M16 8v8M16 16l-7 6M16 16l7 6"/></g><g fill="#fff">'
    '<circle cx="16" cy="8" r="3.4"/><circle cx="9" cy="23" r="3.4"/><circle cx="23" cy="23" r="3.4"/></g></svg>'
)


def document(
    view: str,
    *sections: Child,
    title: str,
    stream: str = "",
    has_login: bool = False,
    has_fleet: bool = True,
    has_documents: bool = False,
    bare: bool = False,
) -> bytes:
    """The HTML of a view, under the `title` of the fleet; the script replaces a section, which it finds by its id, when it
    has changed. `stream` is the stream of hints to follow, `""` without one. `has_login`: the server has `/login`, `has_fleet`:
    the fleet at `/`, `has_documents`: `/documents`. `bare`: the view shows nothing of the fleet and has no script."""
    at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    ours = assets()
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("title", " · ".join(filter(None, (view, title, "cfgsync")))),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href=f"data:image/svg+xml,{quote(_MARK)}"),
        el("style", Markup(ours.style)),
    )
    bar = el(
        "header",
        el(
            "a",
            Markup(_MARK),
            el("span", title or "cfgsync", class_="words"),
            href="./" if has_fleet else "documents",
            class_="brand",
        ),
        None
        if bare
        else el(
            "p",
            el("i", class_="dot"),
            el("span", "as of when the page was loaded", id="live-text"),
            id="live",
            role="status",
        ),
        class_="bar",
    )
    foot = el(
        "footer",
        el("p", "As of ", el("time", at, id="as-of"), "."),
        el(
            "p",
            f"cfgsync {version('cfgsync-runtime')} · this page only reads · ",
            (el("a", "fleet", href="./"), " · ", el("a", "status", href="status"), " · ")
            if has_fleet
            else None,
            (el("a", "documents", href="documents"), " · ") if has_documents else None,
            el("a", "metrics", href="metrics"),
            " · ",
            el("a", "openapi", href="openapi.json"),
            (" · ", el("a", "log in or out", href="login")) if has_login else None,
        ),
    )
    body = el(
        "body",
        el("a", "Skip to the content", href="#main", class_="skip"),
        bar,
        el("main", sections, id="main", tabindex="-1"),
        foot,
        None if bare else el("script", Markup(ours.script)),
        data_stream=stream or None,
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n".encode()
