"""`GET /`: the page, whose modules are loaded when it is first asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_core.server import Call, Operation, Reply, Response, Route
from cfgsync_core.wire import StatusSource

if TYPE_CHECKING:
    from .views import Views


def page_routes(status: StatusSource, source: RegistrationConfigSource | None = None) -> list[Route]:
    """`GET /`, for readers. `source` is the same as `status` if it has generations to show."""
    media = {"text/html": {"type": "string"}, "application/json": {"type": "object"}}
    operation = Operation(
        "The fleet as a page; with `Accept: application/json`, what its grid is drawn from",
        {"200": Response(media=media)},
        "400 403 503",
    )
    return [Route("GET", "/", Page(status, source), "page", "reader", operation=operation)]


class Page:
    """The handler of `GET /`: HTML, or with `Accept: application/json` the words that the grid is drawn from."""

    def __init__(self, status: StatusSource, source: RegistrationConfigSource | None = None) -> None:
        self._status = status
        self._source = source
        self._views: Views | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, call: Call) -> Reply:
        async with self._loading:
            if self._views is None:
                self._views = (await asyncio.to_thread(_load))(self._status, self._source)
        return await self._views.answer(call)


def _load() -> type[Views]:
    from .views import Views

    return Views
