"""`GET /`: the page. Its modules are loaded at the first request."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_core.server import Call, Operation, Reply, Response, Route
from cfgsync_core.wire import NodeDetails, StatusSource

from ..access.tokens.tokens import Tokens
from .login.routes import login_routes

if TYPE_CHECKING:
    from .views import Views


def page_routes(
    status: StatusSource,
    source: RegistrationConfigSource | None = None,
    *,
    details: NodeDetails | None = None,
    title: str | None = None,
    tokens: Tokens | None = None,
    has_documents: bool = False,
) -> list[Route]:
    """`GET /`, for readers, and where there are `tokens`, `/login`. `source` is the same as `status` if it has generations to show, `details` if it has none and
    knows what it gives each node. `title` is the name of the fleet (default: this host's name). `has_documents`: there is `/documents`."""
    name = socket.gethostname() if title is None else title
    loaded: list[Views] = []

    async def page(call: Call) -> Reply:
        if not loaded:
            loaded.append(
                (await asyncio.to_thread(_load))(
                    status, source, details, name, tokens is not None, has_documents
                )
            )
        return await loaded[0].answer(call)

    operation = Operation(
        "The fleet as a page; with `Accept: application/json`, the data of its grid",
        {"200": Response(media={"text/html": {"type": "string"}, "application/json": {"type": "object"}})},
        "400 401 403 503",
    )
    route = Route("GET", "/", page, "page", "reader", operation=operation)
    return [route] if tokens is None else [route, *login_routes(tokens, name)]


def _load() -> type[Views]:
    from .views import Views

    return Views
