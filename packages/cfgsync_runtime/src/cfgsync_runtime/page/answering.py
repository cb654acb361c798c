"""`GET /`: who may see the page, and which of its views was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_core import Call, Reply, StatusSource, refusal

from ..access.insecure import InsecureOption, is_loopback

if TYPE_CHECKING:
    from .views import Views

Door: TypeAlias = Literal["loopback", "open", "closed"]
"""Whom a server's page is for: this machine; whoever reaches it; nobody."""

_CLOSED: Final = "the page is served on loopback only until read tokens exist; --insecure-no-auth shows it to whoever reaches it"
_FOREIGN: Final = "the page answers to this machine's own names and addresses only (`Host`): call it as http://127.0.0.1, with its port"


def door_of(host: str, lacking: Sequence[InsecureOption]) -> Door:
    """Whom the page of a server on `host` is for; `lacking` is what its operator lets it do without."""
    if is_loopback(host):
        return "loopback"
    return "open" if "no-auth" in lacking else "closed"


class Page:
    """The handler of `GET /`. `source` is the same as `status` where there are generations to tell of.

    HTML, or with `Accept: application/json` the words that the grid is drawn from. Its modules are loaded, and its
    script and style read, when it is asked for the first time.
    """

    def __init__(
        self, status: StatusSource, source: RegistrationConfigSource | None = None, *, door: Door = "loopback"
    ) -> None:
        self._status = status
        self._source = source
        self._door = door
        self._views: Views | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, call: Call) -> Reply:
        if self._door == "closed":
            return refusal(403, "forbidden", _CLOSED)
        if self._door == "loopback" and not call.own_name:
            return refusal(403, "forbidden", _FOREIGN)
        async with self._loading:
            if self._views is None:
                self._views = (await asyncio.to_thread(_load))(self._status, self._source)
        return await self._views.answer(call)


def _load() -> type[Views]:
    from .views import Views

    return Views
