"""The routes that report on a server and its fleet: `/livez`, `/readyz`, `/status`; and `/admin/evict`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from cfgsync_artifacts import CfgsyncError

from ..errors import Unavailable
from ..text import error_text
from ..wire.limits import MAX_PAGE_NODES
from ..wire.protocol import NodeRequest, encode_error
from ..wire.registration import check_identifier
from ..wire.request_body import RequestBody
from ..wire.status import FleetStatus, NodeStatus, StatusSource
from .route import CONTENTS, Body, Call, Operation, Reply, Response, Route, page_of


class Health(msgspec.Struct):
    """Alive, or ready."""

    status: str


PING_SECONDS = 2.0
"""A store that does not answer `/readyz` within this is away."""


async def _nothing_to_check() -> None:
    """A source without a store is always ready."""


def health_routes(ping: Callable[[], Awaitable[None]] = _nothing_to_check) -> list[Route]:
    """`/livez`, `/healthz`, which is the same, and `/readyz`, which fails when `ping` does."""

    async def livez(call: Call) -> Reply:
        return Reply(200, (b'{"status":"alive"}',))

    async def readyz(call: Call) -> Reply:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await ping()
        except CfgsyncError:
            raise
        except TimeoutError:
            raise Unavailable(f"the store did not answer within {PING_SECONDS:g} s") from None
        except Exception as error:  # an engine of another package
            raise Unavailable(f"the store does not answer: {error_text(error)}") from error
        return Reply(200, (b'{"status":"ready"}',))

    answers = {"200": Response((Health,))}
    return [
        Route("GET", "/livez", livez, "livez", operation=Operation("Alive", answers)),
        Route("GET", "/healthz", livez, "livez"),
        Route("GET", "/readyz", readyz, "readyz", operation=Operation("The store answers", answers)),
    ]


def status_routes(source: StatusSource) -> list[Route]:
    """`/status`, a page of the fleet, and `/status/{identifier}`, one node."""

    async def fleet(call: Call) -> Reply:
        status = source.fleet(*page_of(call.query))
        if status.rollout and call.principal.role not in CONTENTS:
            status = msgspec.structs.replace(status, rollout=status.rollout.without_words)
        return Reply(200, (msgspec.json.encode(status),))

    async def node(call: Call) -> Reply:
        return Reply(200, (msgspec.json.encode(source.node(call.names["identifier"][:200])),))

    limit = {
        "description": f"1 to {MAX_PAGE_NODES}; any other value counts as {MAX_PAGE_NODES}",
        "anyOf": [{"type": "integer"}, {"type": "string"}],
    }
    of_fleet = Operation(
        "The nodes that are registered, those that are missing, and why the fleet is not ready",
        {"200": Response((FleetStatus,))},
        "400 401 403 503",
        query={"limit": limit, "after": {"type": "string"}},
    )
    of_node = Operation("One node, and why", {"200": Response((NodeStatus,))}, "400 401 403 503")
    return [
        Route("GET", "/status", fleet, "status", "reader", operation=of_fleet),
        Route("GET", "/status/{identifier}", node, "status", "reader", operation=of_node),
    ]


def evict_route(evict: Callable[[str], Awaitable[bool]]) -> Route:
    """`POST /admin/evict`; `evict` returns False for an unknown node."""

    async def handler(call: Call) -> Reply:
        identifier = call.value.identifier
        if await evict(identifier):
            return Reply(200, (msgspec.json.encode(call.value),))
        # the identifier distinguishes this 404 from that of an unknown route
        message = f"no node {identifier} is registered"
        return Reply(404, (encode_error("not_found", message, identifier=identifier),))

    operation = Operation(
        "Make a node leave; its name is free, and it may register again",
        {"200": Response((NodeRequest,))},
        "400 403 404 413 415 422 503 507",
        NodeRequest,
    )
    return Route("POST", "/admin/evict", handler, "evict", "operator", Body(_decode_node), operation)


_node = RequestBody(NodeRequest)


def _decode_node(body: bytes) -> NodeRequest:
    named = _node.decode(body)
    check_identifier(named.identifier)
    return named
