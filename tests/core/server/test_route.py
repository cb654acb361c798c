"""A server answers the routes that it was given, and no other: names in paths, methods, bodies, access, WebSockets."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from cfgsync_core import HttpServer, InvalidRequest
from cfgsync_core.server.access import LocalOperators
from cfgsync_core.server.openapi import documented
from cfgsync_core.server.route import (
    OPERATOR,
    Body,
    Call,
    Operation,
    Reply,
    Response,
    Route,
    WebSocket,
    page_of,
    refusal,
)


async def told(call: Call) -> Reply:
    """What the handler was given."""
    words = {"names": dict(call.names), "query": dict(call.query), "value": call.value}
    return Reply(200, (json.dumps(words).encode(),))


def number(body: bytes) -> int:
    try:
        return int(body)
    except ValueError as error:
        raise InvalidRequest(422, "not a number") from error


@asynccontextmanager
async def asking(routes: list[Route], **more: Any) -> AsyncIterator[aiohttp.ClientSession]:
    async with HttpServer(routes, port=0, **more) as server, aiohttp.ClientSession(server.url) as session:
        yield session


async def test_a_path_with_names_is_answered_with_them_decoded() -> None:
    async with asking([Route("GET", "/docs/{scope}/{name}", told)]) as session:
        words = await (await session.get("/docs/a%20b/c.d?x=1&x=2")).json()
        assert words == {"names": {"scope": "a b", "name": "c.d"}, "query": {"x": "1"}, "value": None}
        for other in ("/docs/a", "/docs/a/", "/docs/a/b/c", "/docs//b"):
            assert (await session.get(other)).status == 404, other


async def test_an_exact_path_comes_before_one_with_names() -> None:
    async def exact(call: Call) -> Reply:
        return Reply(204)

    async with asking([Route("GET", "/docs/{name}", told), Route("GET", "/docs/all", exact)]) as session:
        assert (await session.get("/docs/all")).status == 204
        assert (await session.get("/docs/some")).status == 200


async def test_every_method_may_be_a_route_and_any_other_is_405() -> None:
    routes = [Route(method, "/docs/{name}", told) for method in ("GET", "DELETE")]
    routes.append(Route("PUT", "/docs/{name}", told, body=Body(number)))
    async with asking(routes) as session:
        assert (await session.delete("/docs/a")).status == 200
        answer = await session.put("/docs/a", json=7)
        assert (answer.status, (await answer.json())["value"]) == (200, 7)
        assert (await session.put("/docs/a", json="x")).status == 422
        refused = await session.patch("/docs/a", json=7)
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, DELETE, PUT, HEAD")


def test_two_routes_for_one_method_and_path_are_a_mistake_of_the_composer() -> None:
    with pytest.raises(ValueError, match="two routes for GET /a"):
        HttpServer([Route("GET", "/a", told), Route("GET", "/a", told)])


async def test_a_body_has_the_limit_of_its_route() -> None:
    routes = [
        Route("POST", "/small", told, body=Body(len, 10)),
        Route("POST", "/large", told, body=Body(len, 1_000_000)),
    ]
    async with asking(routes) as session:
        large = {"data": b" " * 200_000, "headers": {"Content-Type": "application/json"}}
        assert (await session.post("/small", **large)).status == 413
        assert (await (await session.post("/large", **large)).json())["value"] == 200_000


class Closed(LocalOperators):
    """Lets only this machine's operator in, and says which names it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def answer(self, route: Route, call: Call) -> Reply:
        self.seen.append((route.access, call.principal.role))
        return refusal(403, "forbidden", "closed") if route.access == "reader" else await route.handler(call)


async def test_the_composer_says_who_may_call_what_and_the_handler_reads_the_principal() -> None:
    async def operator(call: Call) -> Reply:
        return Reply(204 if call.principal == OPERATOR else 500)

    access = Closed()
    routes = [
        Route("GET", "/r", told, access="reader"),
        Route("GET", "/o", operator, access="operator"),
        Route("POST", "/n", told, access="node", body=Body(number)),
    ]
    async with HttpServer(routes, port=0, access=access) as server:
        bound = socket.socket(socket.AF_UNIX)
        bound.bind("")  # Linux gives it a name that is in no directory
        server.listen(bound)
        by_socket = aiohttp.UnixConnector(bound.getsockname().decode())
        async with aiohttp.ClientSession(server.url, connector=by_socket) as session:
            assert (await session.get("/r")).status == 403
            assert (await session.get("/o")).status == 204
            assert (await session.get("/o", headers={"Origin": "http://x"})).status == 403
            assert (await session.post("/n", json=1)).status == 200
        async with aiohttp.ClientSession(server.url) as session:
            assert (await session.get("/r")).status == 403
            assert (await session.get("/o")).status == 403
    assert access.seen == [
        ("reader", "operator"),
        ("operator", "operator"),
        ("node", "anyone"),
        ("reader", "anyone"),
    ]


async def test_the_document_says_what_the_routes_say_and_leaves_out_what_has_no_words() -> None:
    described = Operation("One", {"200": Response(media={"text/plain": {"type": "string"}})})
    routes = documented(
        [Route("GET", "/docs/{name}", told, operation=described), Route("GET", "/hidden", told)]
    )
    async with asking(routes) as session:
        paths = (await (await session.get("/openapi.json")).json())["paths"]
    assert paths.keys() == {"/docs/{name}"}
    (parameter,) = paths["/docs/{name}"]["get"]["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("name", "path", True)


async def test_a_websocket_is_a_reply_that_sends_and_receives_until_either_end_closes() -> None:
    heard: list[str | bytes | None] = []

    async def echo(socket: WebSocket) -> None:
        while (message := await socket.receive()) is not None:
            heard.append(message)
            await socket.send(message)
        heard.append(None)

    async def handler(call: Call) -> Reply:
        return Reply(101, converse=echo)

    async with asking([Route("GET", "/socket", handler, endless=True)]) as session:
        plain = await session.get("/socket")
        assert (plain.status, plain.headers["Upgrade"]) == (426, "websocket")
        assert (await session.head("/socket")).status == 405
        async with session.ws_connect("/socket") as socket:
            await socket.send_str("a")
            assert await socket.receive_str() == "a"
            await socket.send_bytes(b"\xff")
            assert await socket.receive_bytes() == b"\xff"
        assert (await session.get("/socket")).status == 426  # the server is still there
    assert heard == ["a", b"\xff", None]


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, (1_000, "")),
        ({"limit": "0", "after": "a"}, (1, "a")),
        ({"limit": "9999"}, (1_000, "")),
        ({"limit": "x"}, (1_000, "")),
    ],
)
def test_a_page_is_one_to_a_thousand_nodes_after_a_name(query: dict[str, str], page: tuple[int, str]) -> None:
    assert page_of(query) == page
