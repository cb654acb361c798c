"""Every route × every principal: who may call what, over loopback, over a network, through a proxy, and over the admin socket;
one table. The routes of documents, which have scopes, are in tests/documents/test_rights.py."""

from __future__ import annotations

import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import aiohttp
import pytest

from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, RegistrationSnapshot
from cfgsync_artifacts import ArtifactSet
from cfgsync_core import HttpServer, MemoryStore, StaticConfigSource
from cfgsync_core.server import Call, Reply, Route
from cfgsync_core.server.route import Caller
from cfgsync_documents.http import name_routes, scope_routes
from cfgsync_documents.service import Documents, History
from cfgsync_runtime import ServerCertificate, serving_snapshot, serving_source
from cfgsync_runtime.access.admission import Admission
from cfgsync_runtime.access.tokens.credentials import credentials
from cfgsync_runtime.access.tokens.tokens import NewToken, Tokens
from cfgsync_runtime.compose.document_server import serving_documents
from tests.certificates import Authority

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
    ("POST", "/init-with-node"): ("node", "", REGISTER),
    ("POST", "/ack"): ("node", "", ACK),
    ("GET", "/status"): ("reader", "", None),
    ("GET", "/status/{identifier}"): ("reader", "/status/a", None),
    ("GET", "/"): ("reader", "", None),
    ("GET", "/documents"): ("reader", "", None),
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
        self.proxied: Mapping[str, str] = {}
        """What a proxy in between adds to each request over TCP."""
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
        added = {} if over is self.unix else self.proxied
        headers = {"Accept": "application/json", **added, **self.headers[principal]}
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
                f"{server.url.partition(':')[0]}://127.0.0.1:{server.port}",
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


def routes_of(server: HttpServer) -> dict[tuple[str, str], Route]:
    table = server._table
    every = [route for methods in table._exact.values() for route in methods.values()]
    every += [route for _, methods in table._named for route in methods.values()]
    return {(route.method, route.path): route for route in every}


async def of_documents() -> set[tuple[str, str]]:
    """The routes of the other table."""
    store = MemoryStore()
    async with Documents(store) as documents, History(store, documents) as history:
        routes = [*name_routes(documents), *scope_routes(documents, history)]
    return {(route.method, route.path) for route in routes}


@pytest.mark.parametrize(
    ("where", "proxied"),
    [("loopback", False), ("loopback", True), ("network", False), ("network", True)],
    ids=["loopback", "loopback through a proxy", "network", "network through a proxy"],
)
async def test_every_route_answers_the_principals_of_the_table_and_nobody_else(
    where: str, proxied: bool, tmp_path: Path
) -> None:
    """A server on a network listens on every address and speaks TLS; behind a proxy it is on loopback and requires tokens."""
    more: dict[str, Any] = {"documents": True, "legacy_init_with_node": True}
    context = None
    if where == "network":
        more |= {"requires_tokens": True, "anonymous": False}
    if proxied:
        more["trusted_proxies"] = ["127.0.0.0/8"]
    elif where == "network":
        authority = Authority(tmp_path)
        cert, key = authority.pair()
        more |= {"host": "0.0.0.0", "tls": ServerCertificate(str(cert), str(key))}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.file)
    asked = surprises = 0
    async with serving(context, **more) as fleet:
        if proxied:  # the client wrote the left one
            fleet.proxied = {"X-Forwarded-For": "127.0.0.1, 203.0.113.9", "X-Forwarded-Proto": "https"}
        assert set(routes_of(fleet.server)) - await of_documents() == set(TABLE), (
            "a new route belongs into the table"
        )
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
    through = " through a proxy" if proxied else ""
    print(f"{where}{through}: {asked} pairs of route and principal, {surprises} surprises")
    assert surprises == 0


async def test_no_way_to_serve_has_a_route_that_is_in_neither_table_or_needs_less() -> None:
    source = StaticConfigSource({"a": ArtifactSet()})
    ways = {
        "documents": serving_documents(),
        "a bundle": serving_source(source, source, acknowledging=source, legacy_init_with_node=True),
        "a bundle with tokens": serving_source(
            source, source, acknowledging=source, details=source, store="memory:"
        ),
        "a fleet without a page": serving_snapshot(Each(), page=False),
    }
    scoped, asked = await of_documents(), 0
    for what, way in ways.items():
        async with way as server:
            for named, route in routes_of(server).items():
                asked += 1
                if named in scoped:
                    assert route.scope is not None, (what, named)
                    assert route.access in ("reader", "writer", "reader or writer"), (what, named)
                elif (what, named) != ("documents", ("GET", "/")):  # it leads to /documents and shows nothing
                    needs = TABLE[named][0]
                    assert route.access == ("public" if needs == "form" else needs), (what, named)
    print(f"{asked} routes of {len(ways)} other ways to serve, each in a table")
    assert asked > 60


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
