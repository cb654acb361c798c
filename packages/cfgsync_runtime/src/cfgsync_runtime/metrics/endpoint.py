"""`GET /metrics`: what a scraper is answered. The library that writes it is loaded when the first one comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_core import Call, Reply, StatusSource, StoreCounts, WatchStreams

from ..access.insecure import InsecureOption
from .requests import RequestCounts

if TYPE_CHECKING:
    from cfgsync_core import HttpServer


class Observed(msgspec.Struct):
    """The parts of one running server that have figures; what is None has none."""

    traffic: RequestCounts
    server: HttpServer | None = None
    status: StatusSource | None = None
    source: RegistrationConfigSource | None = None
    store: StoreCounts | None = None
    pages: WatchStreams | None = None
    lacking: tuple[InsecureOption, ...] = ()


class MetricsEndpoint:
    """The handler of `GET /metrics`: `handlers["metrics"] = MetricsEndpoint(observed)`."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self._text: Callable[[], bytes] | None = None
        self._headers: dict[str, str] = {}

    async def __call__(self, call: Call) -> Reply:
        if self._text is None:
            from_metrics = await asyncio.to_thread(_load)
            self._text, self._headers["Content-Type"] = from_metrics(self._observed)
        return Reply(200, (self._text(),), self._headers)


def _load() -> Callable[[Observed], tuple[Callable[[], bytes], str]]:
    from .families import text_of

    return text_of
