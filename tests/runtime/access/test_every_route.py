"""Every route × every principal: who may call what, over loopback, over a network, and over the admin socket; one table."""

from __future__ import annotations

import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

import aiohttp
import pytest

from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, RegistrationSnapshot
from cfgsync_core import HttpServer, MemoryStore
from cfgsync_core.server import Call, Reply, Route
from cfgsync_core.server.route import Caller
from cfgsync_runtime import serving_snapshot
from cfgsync_runtime.access.admission import Admission
from cfgsync_runtime.access.tokens.credentials import credentials
from cfgsync_runtime.access.tokens.tokens import NewToken, Tokens

A, B = "secret-of-node-a-1234567890", "secret-of-node-b-1234567890"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REGISTER = {"identifier": "a", "ip": "10.0.0.1"}
LOGIN = b"token="
ACK = {"identifier": "a", "generation": "GENERATION", "digest": "DIGEST", "status": "applied"}

Kind: TypeAlias = Literal["public", "form", "node", "reader", "operator"]

TABLE: dict[tuple[str, str], tuple[Kind, str, Any]] = {
    ("GET", "/livez"): ("public", "", None),
    ("GET", "/healthz"): ("public", "", None),
    ("GET", "/readyz"): ("public", "", None),
    ("GET", "/metrics"): ("public", "", None),
    ("GET", "/openapi.json"): ("public", "", None),
    ("GET", "/watch"): ("public", "", None),
    ("GET", "/login"): ("public", "", None),
    ("POST", "/login"): ("form", "", LOGIN),
    ("POST", "/register"): ("node", "", REGISTER),
    ("POST", "/node"): ("node", "", REGISTER),
    ("POST", "/ack"): ("node", "", ACK),
    ("GET", "/status"): ("reader", "", None),
    ("GET", "/status/{identifier}"): ("reader", "/status/a", None),
    ("GET", "/"): ("reader", "", None),
    ("GET", "/admin/nodes"): ("operator", "", None),
    ("GET", "/admin/nodes/{identifier}"): ("operator", "/admin/nodes/a", None),
    ("GET", "/admin/generations"): ("operator", "", None),
    ("GET", "/admin/snapshot"): ("operator", "", None),
    ("GET", "/admin/tokens"): ("operator", "", None),
    ("POST", "/admin/token/create"): ("operator", "", {"for": "x"}),
    ("POST", "/admin/token/revoke"): ("operator", "", {"which": "nobody"}),
    ("POST", "/admin/renew"): ("operator", "/admin/renew?wait=0", {}),
    ("POST", "/admin/evict"): ("operator", "", {"identifier": "nobody"}),
    ("POST", "/admin/rollout"): ("operator", "", {"action": "pause"}),
    ("POST", "/node/replace"): ("operator", "", {"identifier": "b", "files": []}),
    ("POST", "/logout"): ("form", "", b""),  # the last one: it ends the session
}
"""Route → what it needs, its target where that differs, its body. A form takes what no page of another origin sends."""

MAY: dict[str, dict[str, set[Kind]]] = {
    "loopback": {
        "anyone": {"public", "reader"},
        "a web page": {"public", "reader"},
        "node a": {"public", "reader", "node"},
        "node b": {"public", "reader"},
        "a join token": {"public", "reader"},
        "a reader": {"public", "reader"},
        "a session": {"public", "reader"},
        "a writer": {"public", "reader"},
        "an operator": {"public", "reader", "operator"},
        "an operator's token in a web page": {"public", "reader"},
        "a revoked operator": {"public", "reader"},
        "a proxy that names the socket's user": {"public", "reader"},
        "the admin socket": {"public", "reader", "operator"},
        "a web page on the admin socket": {"public", "reader"},
    },
    "network": {
        "anyone": {"public"},
        "a web page": {"public"},
        "node a": {"public", "node"},
        "node b": {"public"},
        "a join token": {"public"},
        "a reader": {"public", "reader"},
        "a session": {"public", "reader"},
        "a writer": {"public"},
        "an operator": {"public", "reader", "operator"},
        "an operator's token in a web page": {"public", "reader"},
        "a revoked operator": {"public"},
        "a proxy that names the socket's user": {"public"},
        "the admin socket": {"public", "reader", "operator"},
        "a web page on the admin socket": {"public"},
    },
}
"""Where the server listens → principal → the kinds of routes that answer it."""


class Each:
    def materialize_snapshot(self, nodes: RegistrationSnapshot) -> MaterializedArtifacts:
        return MaterializedArtifacts.from_nodes(
            {n.identifier: [ArtifactFile("/id", f"files of {n.identifier}")] for n in nodes}
        )


class Fleet:
    """A server with the nodes `a` and `b`, and the headers of each principal."""

    def __init__(self, server: HttpServer, tcp: aiohttp.ClientSession, unix: aiohttp.ClientSession) -> None:
        self.server = server
        self.tcp = tcp
        self.unix = unix
        self.headers: dict[str, Mapping[str, str]] = {}
        self.ack: dict[str, str] = {}
        self.login = b""

    async def token(self, **wanted: Any) -> str:
        answer = await self.unix.post("/admin/token/create", json=wanted)
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["token"])

    async def open(self) -> None:
        join = await self.token(**{"for": "*", "uses": 9})
        for name, secret in (("a", A), ("b", B)):
            headers = {**bearer(secret), "Cfgsync-Join-Token": join}
            words = {"identifier": name, "ip": "10.0.0.1"}
            assert (await self.tcp.post("/register", json=words, headers=headers)).status == 202
        answer = await self.tcp.post("/node", json=REGISTER, headers=bearer(A))
        self.ack = {
            "identifier": "a",
            "generation": answer.headers["Cfgsync-Generation"],
            "digest": answer.headers["ETag"].strip('"'),
            "status": "applied",
        }
        reader = await self.token(role="reader", name="ana")
        self.login = LOGIN + reader.encode()
        operator = await self.token(role="operator", name="bea")
        gone = await self.token(role="operator", name="gone")
        assert (await self.unix.post("/admin/token/revoke", json={"which": "gone"})).status == 200
        answer = await self.tcp.post("/login", data={"token": reader}, allow_redirects=False)
        self.tcp.cookie_jar.clear()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        page = {"Origin": "http://attacker.example"}
        proxied = {
            "X-Forwarded-For": "127.0.0.1",
            "Forwarded": "for=127.0.0.1",
            "X-Remote-User": "root",
            "X-Real-IP": "::1",
        }
        self.headers = {
            "anyone": {},
            "a web page": page,
            "node a": bearer(A),
            "node b": bearer(B),
            "a join token": bearer(join),
            "a reader": bearer(reader),
            "a session": {"Cookie": cookie},
            "a writer": bearer(await self.token(role="writer", name="ci", scopes=["shop/live"])),
            "an operator": bearer(operator),
            "an operator's token in a web page": {**bearer(operator), **page},
            "a revoked operator": bearer(gone),
            "a proxy that names the socket's user": proxied,
            "the admin socket": {},
            "a web page on the admin socket": page,
        }

    async def ask(self, principal: str, method: str, target: str, words: Any) -> int:
        over = self.unix if "admin socket" in principal else self.tcp
        headers = {"Accept": "application/json", **self.headers[principal]}
        if isinstance(words, bytes):
            asked = over.request(
                method, target, data=words, headers={**headers, **FORM}, allow_redirects=False
            )
        else:
            asked = over.request(method, target, json=words, headers=headers, allow_redirects=False)
        async with asked as answer:
            if answer.status in (401, 403):
                assert (await answer.json())["code"] in ("unauthorized", "unauthenticated", "forbidden")
            elif answer.headers.get("Content-Type", "").startswith("text/event-stream"):
                answer.close()
            return answer.status


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@asynccontextmanager
async def serving(tls_context: ssl.SSLContext | None = None, **more: Any) -> AsyncIterator[Fleet]:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        async with (
            serving_snapshot(Each(), admin_socket=path, **more) as server,
            aiohttp.ClientSession(
                server.url,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(ssl=tls_context or True),
            ) as tcp,
            aiohttp.ClientSession(
                "http://localhost",
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.UnixConnector(path),
            ) as unix,
        ):
            fleet = Fleet(server, tcp, unix)
            await fleet.open()
            yield fleet


def routes_of(server: HttpServer) -> set[tuple[str, str]]:
    table = server._table
    every = [route for methods in table._exact.values() for route in methods.values()]
    every += [route for _, methods in table._named for route in methods.values()]
    return {(route.method, route.path) for route in every}


@pytest.mark.parametrize("where", MAY)
async def test_every_route_answers_the_principals_of_the_table_and_nobody_else(where: str) -> None:
    more = {} if where == "loopback" else {"requires_tokens": True, "anonymous": False}
    asked = surprises = 0
    async with serving(**more) as fleet:
        assert routes_of(fleet.server) == set(TABLE), "a new route belongs into the table"
        for (method, path), (kind, target, words) in TABLE.items():
            for principal, may in MAY[where].items():
                sent = fleet.ack if words is ACK else fleet.login if words is LOGIN else words
                status = await fleet.ask(principal, method, target or path, sent)
                asked += 1
                answered = status not in (401, 403, 409)
                expected = kind in may or (kind == "form" and "web page" not in principal)
                if answered != expected:
                    surprises += 1
                    print(f"{where}: {principal} {method} {path}: {status}")
    print(f"{where}: {asked} pairs of route and principal, {surprises} surprises")
    assert surprises == 0


@pytest.mark.parametrize(
    ("role", "scopes", "statuses"),
    [
        ("writer", ["shop/live"], (200, 403)),
        ("operator", [], (200, 200)),
        ("reader", [], (403, 403)),
        ("reader", ["shop/live"], (403, 403)),
        ("join", [], (403, 403)),
        (None, [], (401, 401)),
    ],
)
async def test_a_writer_s_route_answers_a_writer_in_its_scope_and_an_operator(
    role: Any, scopes: list[str], statuses: tuple[int, int]
) -> None:
    assert await _scoped("writer", role, scopes) == statuses


@pytest.mark.parametrize(
    ("role", "scopes", "statuses"),
    [
        ("reader", ["shop/live"], (200, 403)),
        ("reader", [], (200, 200)),
        ("writer", ["shop/live"], (403, 403)),
    ],
)
async def test_a_reader_with_a_scope_reads_in_it(
    role: Any, scopes: list[str], statuses: tuple[int, int]
) -> None:
    assert await _scoped("reader", role, scopes) == statuses


async def _scoped(access: Caller, role: Any, scopes: list[str]) -> tuple[int, int]:
    held = credentials(MemoryStore())
    await held.open()
    tokens = Tokens(held)

    async def handler(call: Call) -> Reply:
        return Reply(200)

    route = Route(
        "GET",
        "/{app}/{env}",
        handler,
        "x",
        access,
        scope=lambda call: f"{call.names['app']}/{call.names['env']}",
    )
    headers = {}
    if role is not None:
        covers = "*" if role == "join" else ""
        text, *_ = await tokens.create(NewToken(role, "ana", covers, scopes=tuple(scopes)))
        headers = bearer(text)
    found = []
    for env in ("live", "test"):
        call = Call(headers, {"app": "shop", "env": env})
        refused = Admission("tokens", tokens=tokens).before_body(route, call)
        found.append(200 if refused is None else refused.status)
    return found[0], found[1]


def test_the_repr_of_a_call_and_of_a_request_shows_no_secret() -> None:
    from cfgsync_core import NodeRegistration
    from cfgsync_core.node.requests import register_request

    request = register_request(NodeRegistration("a", "10.0.0.1"), A, 1.0, join_token=B)
    call = Call(bearer(A), body=B.encode(), value=json.loads("{}"))
    assert A not in repr((request, call))
    assert B not in repr((request, call))
