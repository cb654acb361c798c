"""The routes of a source that can do everything, for a server without the composer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_core import CfgsyncServerState
from cfgsync_core.server.openapi import documented
from cfgsync_core.server.route import Body, Call, Handler, Reply, Route


def routes_of(
    source: RegistrationConfigSource,
    *,
    evict: Callable[[str], Awaitable[bool]] | None = None,
) -> list[Route]:
    """As the composer puts them together, without identities and metrics."""
    state = CfgsyncServerState(
        source,
        source,
        fleet=source,
        acknowledging=source,
        presence=source,
        evict=source.evict if evict is None else evict,
    )
    return documented(state.routes())


def get(path: str, handler: Handler) -> Route:
    return Route("GET", path, handler, path.strip("/"))


def answering(reply: Reply) -> list[Route]:
    """`POST /node`, always answered with this reply."""

    async def node(call: Call) -> Reply:
        return reply

    return [Route("POST", "/node", node, "node", "node", Body(bytes))]


async def call_node(routes: list[Route], identifier: str, headers: dict[str, str] | None = None) -> Reply:
    """What `/node` among these routes answers."""
    (node,) = (route for route in routes if route.path == "/node")
    assert node.body is not None
    value = node.body.decode(b'{"identifier":"%b"}' % identifier.encode())
    return await node.handler(Call(headers or {}, value=value))
