"""`GET /metrics`. The library that writes it is loaded at the first scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cfgsync_core.server import Call, Operation, Reply, Response, Route

from .observed import Observed


def metrics_routes(observed: Observed) -> list[Route]:
    """The route, with the figures of `observed`."""
    loaded: list[tuple[Callable[[], bytes], str]] = []

    async def metrics(call: Call) -> Reply:
        if not loaded:
            loaded.append((await asyncio.to_thread(_load))(observed))
        text, kind = loaded[0]
        return Reply(200, (text(),), {"Content-Type": kind})

    operation = Operation(
        "The server's figures, for Prometheus", {"200": Response(media={"text/plain": {"type": "string"}})}
    )
    return [Route("GET", "/metrics", metrics, "metrics", operation=operation)]


def _load() -> Callable[[Observed], tuple[Callable[[], bytes], str]]:
    from .families import text_of

    return text_of
