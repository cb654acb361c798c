"""`GET /documents`: which documents there are is for all who see the page; their values are for readers."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from cfgsync_core.server import Call, Operation, Reply, Response, Route
from cfgsync_documents.http import QUERY_SCHEMA
from cfgsync_documents.service import Documents, History

if TYPE_CHECKING:
    from .page import DocumentPage


def document_page_routes(
    documents: Documents,
    history: History,
    *,
    title: str | None = None,
    are_open: bool = False,
    has_login: bool = False,
    has_fleet: bool = True,
) -> list[Route]:
    """`GET /documents`. `are_open`: every program of this machine reads values. `has_fleet`: there is the fleet's page at `/`,
    else `/` leads here. `title` and `has_login` are as for the fleet's page."""
    name = socket.gethostname() if title is None else title
    loaded: list[DocumentPage] = []

    async def page(call: Call) -> Reply:
        if not loaded:
            kind = await asyncio.to_thread(_load)
            loaded.append(
                kind(documents, history, name, are_open=are_open, has_login=has_login, has_fleet=has_fleet)
            )
        return await loaded[0].answer(call)

    async def first(call: Call) -> Reply:
        return Reply(303, (), {"Location": "documents"})

    html = Response(media={"text/html": {"type": "string"}})
    operation = Operation(
        "The config documents as a page; values are for readers",
        {"200": html, "404": html},
        "400 401 403 503",
        query={
            **dict.fromkeys(("app", "env", "namespace"), QUERY_SCHEMA),
            "name": {"type": "string", "pattern": r"^([A-Za-z0-9_-]{1,60}(\.[A-Za-z0-9_-]{1,60})?)?$"},
            "after": {"type": "string"},
        },
    )
    routes = [Route("GET", "/documents", page, "page", "reader", operation=operation)]
    return routes if has_fleet else [*routes, Route("GET", "/", first, "page")]


def _load() -> type[DocumentPage]:
    from .page import DocumentPage

    return DocumentPage
