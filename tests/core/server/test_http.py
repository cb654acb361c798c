"""The server's own part: routes, methods, headers and the one shape of every error, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from openapi_spec_validator import validate

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_core import (
    CfgsyncServerState,
    Condition,
    HttpServer,
    MemoryStore,
    Missing,
    NodeRegistration,
    StaticConfigSource,
    StoreFull,
    Unavailable,
    Version,
)
from cfgsync_core.server.openapi import documented
from cfgsync_core.store.epoch import mint_epoch
from cfgsync_core.wire import NODE_STATES
from tests.routes import routes_of

CONFIG = ArtifactFile("/config.yaml", "id: node-1\n")
KEY = ArtifactFile("/key", b"\xff", "0600")
WAITING = NotReady("waiting for 2 nodes, have 1", (Condition("quorum", 1, 2, ("node-2",)),), retry_after=3600)
ALLOWED = {"/node": "POST", "/register": "POST", "/livez": "GET, HEAD", "/openapi.json": "GET, HEAD"}


class Two:
    """Ready with two nodes; a node called `secret` has files that an original client would write wrongly."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        if len(registrations) < 2:
            return WAITING
        files = {name: ArtifactSet([CONFIG]) for name in registrations.identifiers}
        if "secret" in files:
            files["secret"] = ArtifactSet([CONFIG, KEY])
        return MaterializedArtifacts.from_nodes(files)


class SickStore(MemoryStore):
    """A store that answers with `error` while it has one."""

    error: Exception | None = None

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    async def commit(self, bucket: str, *arguments: Any, **more: Any) -> Version:
        self._check()
        return await super().commit(bucket, *arguments, **more)

    async def ping(self) -> None:
        self._check()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def words(self) -> Any:
        return json.loads(self.body)


class Asking:
    """Requests as bytes, so that nothing is in them but what a test put there."""

    def __init__(self, server: HttpServer, admin: str = "") -> None:
        self.server = server
        self.admin = admin

    async def operate(self, *words: Any, **more: Any) -> Answer:
        """As `__call__`, over the server's Unix socket."""
        return await self(*words, over=self.admin, **more)

    async def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        kind: str | None = "application/json",
        over: str = "",
    ) -> Answer:
        sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(sent)}"]
        if kind is not None and body is not None:
            lines.append(f"Content-Type: {kind}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        request = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + sent
        reader, writer = await (
            asyncio.open_unix_connection(over)
            if over
            else asyncio.open_connection("127.0.0.1", self.server.port)
        )
        try:
            writer.write(request)
            return await read(reader, with_body=method != "HEAD")
        finally:
            writer.close()

    async def register(self, identifier: str, **more: object) -> Answer:
        answer = await self("POST", "/register", {"identifier": identifier, "ip": "127.0.0.1", **more})
        assert (answer.status, answer.body) == (202, b"")
        return answer

    async def node(self, identifier: str, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self("POST", "/node", {"identifier": identifier}, named)


async def read(reader: asyncio.StreamReader, with_body: bool = True) -> Answer:
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        length = int(headers.get("content-length", "0")) if with_body else 0
        return Answer(int(head[0].split()[1]), headers, await reader.readexactly(length))


@asynccontextmanager
async def serving(store: MemoryStore | None = None) -> AsyncIterator[Asking]:
    source = RegistrationConfigSource(Two(), store=store, admin=store)
    async with source, HttpServer(routes_of(source), port=0) as server:
        bound = socket.socket(socket.AF_UNIX)
        bound.bind("")  # Linux gives it a name that is in no directory
        server.listen(bound)
        yield Asking(server, bound.getsockname().decode())
        source.drain()


@pytest.fixture
async def ask() -> AsyncIterator[Asking]:
    async with serving() as asking:
        yield asking


@pytest.fixture
async def ready(ask: Asking) -> Asking:
    """The same with `node-1` and `secret` registered."""
    await ask.register("node-1")
    await ask.register("secret")
    return ask


# ── routes and methods ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/livez", {"status": "alive"}),
        ("/healthz", {"status": "alive"}),
        ("/readyz", {"status": "ready"}),
        ("/livez?verbose", {"status": "alive"}),
        ("http://example.org/livez", {"status": "alive"}),
    ],
)
async def test_health_is_json_and_head_is_the_same_without_the_body(
    ask: Asking, path: str, words: dict[str, str]
) -> None:
    got = await ask("GET", path)
    assert (got.status, got.words, got.headers["content-type"]) == (200, words, "application/json")
    head = await ask("HEAD", path)
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(got.body)), b"")


@pytest.mark.parametrize(
    "path", ["/", "/nodes", "/node/", "/register/x", "/status/", "/status/a/b", "/admin"]
)
async def test_another_route_is_404_that_no_client_takes_for_missing_files(ask: Asking, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await ask(method, path)
        assert (answer.status, answer.words["code"]) == (404, "not_found")
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "POST"])
@pytest.mark.parametrize("path", list(ALLOWED))
async def test_another_method_is_405_and_names_those_that_are_allowed(
    ask: Asking, path: str, method: str
) -> None:
    answer = await ask(method, path, {"identifier": "node-1", "ip": "127.0.0.1"})
    if method in ALLOWED[path]:
        assert answer.status != 405
        return
    assert (answer.status, answer.headers["allow"]) == (405, ALLOWED[path])
    if method != "HEAD":
        assert answer.words["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/node?a=1", "http://example.org/node", "http://example.org:4400/node?x"])
async def test_other_spellings_of_a_route_are_the_route(ready: Asking, path: str) -> None:
    answer = await ready("POST", path, {"identifier": "node-1"})
    assert answer.status == 200


@pytest.mark.parametrize(
    "path", ["/\udcff", "/status/\udcff", "/status/%ff", "/status/%00", "/status?after=\udcff"]
)
async def test_a_target_that_is_no_text_is_answered_without_a_failure(ask: Asking, path: str) -> None:
    answer = await ask("GET", path)
    assert answer.status in (200, 400, 404)
    assert answer.words


async def test_the_openapi_document_is_valid_and_names_every_route(ask: Asking) -> None:
    document = (await ask("GET", "/openapi.json")).words
    validate(document)
    assert set(document["paths"]) == {
        *(
            "/register",
            "/node",
            "/ack",
            "/livez",
            "/readyz",
            "/status",
            "/status/{identifier}",
            "/admin/evict",
        )
    }
    for path, operations in document["paths"].items():
        for method in operations:
            answer = await ask(method.upper(), path.replace("{identifier}", "node-1"))
            assert answer.words.get("code") not in ("not_found", "method_not_allowed"), (method, path)


class Plain:
    """A source that can do what a source must, and no more."""

    async def register(self, registration: NodeRegistration) -> Missing:
        return Missing()

    async def resolve(self, identifier: str, *, known: str | None = None, wait: float = 0.0) -> Missing:
        return Missing()


async def test_a_source_that_cannot_explain_itself_has_no_status_and_the_document_promises_none() -> None:
    async with HttpServer(documented(CfgsyncServerState(Plain()).routes()), port=0) as server:
        ask = Asking(server)
        assert (await ask("GET", "/status")).status == 404
        assert (await ask("GET", "/readyz")).status == 200
        document = (await ask("GET", "/openapi.json")).words
        validate(document)
        assert "/status" not in document["paths"]


async def test_a_static_source_says_in_the_status_who_is_in_it() -> None:
    source = StaticConfigSource({"node-1": ArtifactSet([CONFIG])})
    async with HttpServer(CfgsyncServerState(source, source).routes(), port=0) as server:
        fleet = (await Asking(server)("GET", "/status")).words
    assert fleet["generation"] is None
    assert [node["identifier"] for node in fleet["nodes"]] == ["node-1"]


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/register", "/node"])
@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b'{"identifier":"a","ip":"127.0.0.1"}{}', 400, "not JSON"),
        (b'{"identifier":"\xff","ip":"127.0.0.1"}', 400, "not JSON"),
        (b"[]", 422, "body"),
        (b"{}", 422, "identifier"),
        (b'{"identifier":7,"ip":"127.0.0.1"}', 422, "identifier"),
        (b'{"identifier":"../x","ip":"127.0.0.1"}', 422, "identifier"),
        (b'{"identifier":"a","ip":"127.0.0.01"}', 422, "ip"),
        (b'{"identifier":"a","identifier":"b","ip":"127.0.0.1"}', 422, "identifier: given twice"),
    ],
)
async def test_a_body_that_is_wrong_is_named(
    ask: Asking, path: str, body: bytes, status: int, says: str
) -> None:
    answer = await ask("POST", path, body)
    assert (answer.status, answer.words["code"]) == (status, "invalid_request")
    assert answer.words["message"].startswith(says)


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""]
)
async def test_what_is_not_said_to_be_json_is_415(ask: Asking, kind: str | None) -> None:
    answer = await ask("POST", "/node", {"identifier": "a"}, kind=kind)
    assert (answer.status, answer.words) == (
        415,
        {"code": "invalid_request", "message": "Expected request with `Content-Type: application/json`"},
    )


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"]
)
async def test_json_is_said_in_more_than_one_way(ask: Asking, kind: str) -> None:
    assert (await ask("POST", "/node", {"identifier": "a"}, kind=kind)).status == 425


async def test_a_chunked_body_is_taken_and_ended_at_the_limit(ask: Asking) -> None:
    head = b"POST /register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    words = b'{"identifier":"a","ip":"127.0.0.1"}'
    for chunks, status in [([words[:9], words[9:]], 202), ([b" " * 30_000] * 3, 413)]:
        reader, writer = await asyncio.open_connection("127.0.0.1", ask.server.port)
        writer.write(
            head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        )
        answer = await read(reader)
        assert answer.status == status
        writer.close()


async def test_who_asks_before_sending_a_body_is_told_to_go_on(ask: Asking) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ask.server.port)
    body = b'{"identifier":"a","ip":"127.0.0.1"}'
    writer.write(
        b"POST /register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    assert (await read(reader)).status == 100
    writer.write(body)
    assert (await read(reader)).status == 202
    writer.close()


# ── what a node is told ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_registration_tells_its_version_and_an_equal_one_the_same(ask: Asking) -> None:
    first = await ask.register("node-1")
    assert Version.parse(first.headers["cfgsync-version"]).revision == 1
    assert (await ask.register("node-1")).headers["cfgsync-version"] == first.headers["cfgsync-version"]


async def test_a_stranger_is_told_at_once_that_it_is_not_registered(ask: Asking) -> None:
    async with asyncio.timeout(5):
        answer = await ask.node("stranger", Prefer="wait=30")
    assert answer.status == 425
    assert answer.body.startswith(
        b'{"code":"not_ready","message":"config for host stranger is not ready","registered":false,'
    )


async def test_not_ready_says_why_with_conditions_and_when_to_ask_again(ask: Asking) -> None:
    await ask.register("node-1")
    answer = await ask.node("node-1")
    assert (answer.status, answer.body) == (
        425,
        b'{"code":"not_ready","message":"config for host node-1 is not ready","registered":true,'
        b'"reason":"waiting for 2 nodes, have 1","conditions":[{"name":"quorum","have":1,"need":2,'
        b'"missing":["node-2"]}],"retry_after":1}',
    )
    assert answer.headers["retry-after"] == "1"
    held = await ask.node("node-1", Prefer="respond-async, wait=1")
    assert (held.words["retry_after"], held.headers["preference-applied"]) == (0, "wait=1")


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=20", "wait=20"),
        ("wait=99", "wait=30"),
        ("WAIT = 5", "wait=5"),
        ("wait=x", None),
        ("waiting=5", None),
    ],
)
async def test_prefer_is_applied_up_to_30_seconds_and_said(
    ready: Asking, prefer: str, applied: str | None
) -> None:
    answer = await ready.node("node-1", Prefer=prefer)
    assert (answer.status, answer.headers.get("preference-applied")) == (200, applied)


async def test_files_come_with_digest_and_generation_and_304_carries_both(ready: Asking) -> None:
    full = await ready.node("node-1")
    assert (full.status, full.body) == (
        200,
        b'{"schema_version":1,"files":[{"path":"/config.yaml","content":"id: node-1\\n"}]}',
    )
    assert full.headers["etag"] == f'"{ArtifactSet([CONFIG]).digest}"'
    assert Version.parse(full.headers["cfgsync-generation"]).revision == 1
    etag = full.headers["etag"]
    for tag in (etag, f'"sha256-{"0" * 64}", {etag}', f"W/{etag}", "*"):
        unchanged = await ready.node("node-1", If_None_Match=tag)
        assert (unchanged.status, unchanged.body) == (304, b""), tag
        assert unchanged.headers["etag"] == etag
        assert unchanged.headers["cfgsync-generation"] == full.headers["cfgsync-generation"]
    other = await ready.node("node-1", If_None_Match=f'"sha256-{"0" * 64}"')
    assert (other.status, other.body) == (200, full.body)


async def test_a_304_is_held_until_the_files_change_or_the_time_is_over(ready: Asking) -> None:
    full = await ready.node("secret", Cfgsync_Accept="base64, mode")
    etag = full.headers["etag"]
    async with asyncio.timeout(10):
        over = await ready.node("secret", If_None_Match=etag, Prefer="wait=1")
    assert (over.status, over.headers["etag"]) == (304, etag)


@pytest.mark.parametrize("accept", [None, "mode", "base64", "gzip", ""])
async def test_who_does_not_know_modes_and_base64_is_not_given_a_file_that_has_them(
    ready: Asking, accept: str | None
) -> None:
    headers = {} if accept is None else {"Cfgsync_Accept": accept}
    refused = await ready.node("secret", **headers)
    assert (refused.status, refused.words["code"]) == (406, "not_acceptable")
    assert "/key" in refused.words["message"]
    assert (await ready.node("node-1", **headers)).status == 200  # plain files are everybody's


@pytest.mark.parametrize("accept", ["base64, mode", "mode,base64", "base64, mode, future"])
async def test_who_knows_both_is_given_both(ready: Asking, accept: str) -> None:
    answer = await ready.node("secret", Cfgsync_Accept=accept)
    assert answer.words["files"][1] == {
        "path": "/key",
        "content": "/w==",
        "mode": "0600",
        "encoding": "base64",
    }


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_status_says_who_is_here_and_why_it_is_not_ready(ask: Asking) -> None:
    await ask.register("node-1")
    await ask.node("node-1")
    fleet = (await ask("GET", "/status")).words
    (node,) = fleet.pop("nodes")
    assert fleet == {
        "generation": None,
        "state": "not_ready",
        "revision": 1,
        "registered": 1,
        "waiting": 0,
        "pending": False,
        "reason": (why := "quorum 1 of 2, missing node-2 (never seen); the materializer says: ")
        + WAITING.reason,
        "conditions": [{"name": "quorum", "have": 1, "need": 2, "missing": ["node-2"]}],
        "missing": [{"identifier": "node-2", "last_seen": None}],
        "counts": dict.fromkeys(NODE_STATES, 0) | {"not_ready": 1, "not_registered": 1},
        "applied": 0,
        "behind": [{"identifier": "node-1", "reason": f"registered; {why}{WAITING.reason}"}],
        "behind_count": 1,
        "converged": False,
    }
    assert node.pop("last_seen").endswith("Z")
    assert node == {
        "identifier": "node-1",
        "registered": True,
        "waiting": False,
        "served": None,
        "applied": None,
        "last_failure": None,
        "reason": f"registered; {why}{WAITING.reason}",
        "state": "not_ready",
        "because": WAITING.reason,
        "conditions": [],
        "missing": [],
        "keepalive": None,
    }
    assert (await ask("GET", "/status/node-1")).words["identifier"] == "node-1"


async def test_the_status_of_a_stranger_is_200_and_says_that_it_is_one(ask: Asking) -> None:
    answer = await ask("GET", "/status/stranger")
    assert (answer.status, answer.words["registered"]) == (200, False)
    assert answer.words["reason"] == "stranger is not registered"


async def test_the_status_is_paged_in_the_order_of_names(ask: Asking) -> None:
    for n in (3, 1, 2, 5, 4):
        await ask.register(f"node-{n}")
    pages = []
    after = ""
    while page := (await ask("GET", f"/status?limit=2&after={after}")).words["nodes"]:
        pages.append([node["identifier"] for node in page])
        after = pages[-1][-1]
    assert pages == [["node-1", "node-2"], ["node-3", "node-4"], ["node-5"]]
    for limit in ("0", "-1", "x", "99999999999999999999"):
        answer = await ask("GET", f"/status?limit={limit}")
        assert (answer.status, answer.words["registered"]) == (200, 5)


# ── a store that does not answer, and the end ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("error", "status"), [(Unavailable("away"), 503), (StoreFull("no space left"), 507)])
async def test_a_store_that_fails_is_never_an_empty_answer_and_heals(error: Exception, status: int) -> None:
    store = SickStore()
    async with serving(store) as ask:
        await ask.register("node-1")
        await ask.register("node-2")
        files = await ask.node("node-1")
        store.error = error
        refused = await ask("POST", "/register", {"identifier": "node-3", "ip": "127.0.0.1"})
        assert (refused.status, refused.words) == (status, {"code": "unavailable", "message": str(error)})
        assert ("retry-after" in refused.headers) == (status == 503)
        assert (await ask("GET", "/readyz")).status == status
        assert (await ask("GET", "/livez")).status == 200
        assert (await ask.node("node-1")).body == files.body  # what is served goes on being served
        store.error = None
        assert (await ask("GET", "/readyz")).status == 200
        await ask.register("node-3")


async def test_a_failure_of_the_server_itself_is_a_sentence_without_a_word_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = SickStore()
    async with serving(store) as ask:
        store.error = ZeroDivisionError("canary")
        answer = await ask("POST", "/register", {"identifier": "node-1", "ip": "127.0.0.1"})
    assert (answer.status, answer.words["code"]) == (500, "internal")
    assert b"canary" not in answer.body
    assert "ZeroDivisionError: canary" in caplog.text  # the operator sees it


async def test_a_server_that_drains_answers_who_waits_and_who_comes_503(ask: Asking) -> None:
    await ask.register("node-1")
    reader, writer = await asyncio.open_connection("127.0.0.1", ask.server.port)
    ask.server.drain()
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await read(reader)
    assert (answer.status, answer.words["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert await reader.read() == b""  # and the connection ends
    writer.close()


async def test_a_large_payload_arrives_whole() -> None:
    files = ArtifactSet([ArtifactFile(f"/f{n}", f"{n}" * 400_000) for n in range(5)])
    async with HttpServer(CfgsyncServerState(StaticConfigSource({"n": files})).routes(), port=0) as server:
        answers = await asyncio.gather(*(Asking(server).node("n") for _ in range(4)))
    for answer in answers:
        assert [len(file["content"]) for file in answer.words["files"]] == [400_000] * 5


# ── acknowledgements and leaving ─────────────────────────────────────────────────────────────────────────────────────


async def owed(ask: Asking, identifier: str) -> dict[str, object]:
    """The acknowledgement that this node owes."""
    answer = await ask.node(identifier, Cfgsync_Accept="base64, mode")
    assert answer.status == 200
    generation, etag = answer.headers["cfgsync-generation"], answer.headers["etag"].strip('"')
    return {"identifier": identifier, "generation": generation, "digest": etag, "status": "applied"}


async def test_an_acknowledgement_is_204_and_the_status_knows_it(ready: Asking) -> None:
    said = await owed(ready, "node-1")
    answer = await ready("POST", "/ack", said)
    assert (answer.status, answer.body) == (204, b"")
    assert (await ready("GET", "/status/node-1")).words["applied"] == said["generation"]


async def test_a_failure_is_204_too_and_told(ready: Asking) -> None:
    said = await owed(ready, "node-1") | {"status": "failed", "reason": "no space left"}
    assert (await ready("POST", "/ack", said)).status == 204
    words = (await ready("GET", "/status/node-1")).words
    assert (words["last_failure"], words["applied"]) == ("generation 1: no space left", None)


async def test_an_acknowledgement_of_another_epoch_is_409_stale_generation(ready: Asking) -> None:
    said = await owed(ready, "node-1")
    said["generation"] = f"{mint_epoch()}.1"
    answer = await ready("POST", "/ack", said)
    assert (answer.status, answer.words["code"]) == (409, "stale_generation")


async def test_an_acknowledgement_of_who_is_not_registered_is_425_as_on_node(ready: Asking) -> None:
    said = await owed(ready, "node-1") | {"identifier": "stranger"}
    answer = await ready("POST", "/ack", said)
    assert (answer.status, answer.words["code"], answer.words["registered"]) == (425, "not_ready", False)


async def test_a_malformed_acknowledgement_is_422_and_names_the_field(ready: Asking) -> None:
    said = await owed(ready, "node-1") | {"digest": "sha256-x"}
    answer = await ready("POST", "/ack", said)
    assert (answer.status, answer.words["code"]) == (422, "invalid_request")
    assert answer.words["message"].startswith("digest: ")


async def test_a_store_that_is_away_makes_an_acknowledgement_503() -> None:
    store = SickStore()
    async with serving(store) as ask:
        await ask.register("node-1")
        await ask.register("node-2")
        said = await owed(ask, "node-1")
        store.error = Unavailable("away")
        answer = await ask("POST", "/ack", said)
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        assert (await ask("GET", "/status/node-1")).words["applied"] is None


@pytest.mark.parametrize("path", ["/ack", "/admin/evict"])
async def test_a_source_has_only_the_routes_of_what_it_can_do(path: str) -> None:
    source = StaticConfigSource({"node-1": ArtifactSet([CONFIG])})
    async with HttpServer(CfgsyncServerState(source, source).routes(), port=0) as server:
        answer = await Asking(server)("POST", path, {"identifier": "node-1"})
        assert (answer.status, answer.words["code"]) == (404, "not_found")


async def test_an_evicted_node_is_gone_until_it_registers_again(ready: Asking) -> None:
    answer = await ready.operate("POST", "/admin/evict", {"identifier": "node-1"})
    assert (answer.status, answer.words) == (200, {"identifier": "node-1"})
    asked = await ready.node("node-1")
    assert (asked.status, asked.words["registered"]) == (425, False)
    again = await ready.operate("POST", "/admin/evict", {"identifier": "node-1"})
    assert (again.status, again.words["code"], again.words["identifier"]) == (404, "not_found", "node-1")


@pytest.mark.parametrize(
    ("body", "begins"), [({}, "identifier: missing"), ({"identifier": "../x"}, "identifier: ")]
)
async def test_an_eviction_that_names_nobody_is_422(ask: Asking, body: dict[str, str], begins: str) -> None:
    answer = await ask.operate("POST", "/admin/evict", body)
    assert (answer.status, answer.words["message"][: len(begins)]) == (422, begins)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/admin/evict", {}),
        ("http://127.0.0.1/admin/evict", {}),
        ("//admin/evict/../../admin/evict", {}),
        ("/admin/evict", {"Host": "localhost"}),
        ("/admin/evict", {"X-Forwarded-For": "127.0.0.1", "Via": "1.1 nginx"}),
        ("/admin/evict", {"Forwarded": "for=unix:;by=unix:"}),
        ("/admin/evict", {"Authorization": "Bearer root"}),
    ],
)
async def test_over_tcp_nobody_is_an_operator_whatever_the_request_says(
    ready: Asking, target: str, headers: dict[str, str]
) -> None:
    answer = await ready("POST", target, {"identifier": "node-1"}, headers)
    assert answer.status in (403, 404, 400)
    if answer.status == 403:
        assert "admin socket" in answer.words["message"]
    assert (await ready("GET", "/status/node-1")).words["registered"]


async def test_two_authorizations_are_400_on_every_route(ready: Asking) -> None:
    twice = {"Authorization": "Bearer " + "a" * 32, "authorization": "Bearer " + "b" * 32}
    for path in ("/node", "/register", "/ack", "/admin/evict"):
        answer = await ready("POST", path, {"identifier": "node-1", "ip": "10.0.0.1"}, twice)
        assert (answer.status, answer.words["message"]) == (400, "Authorization: given twice"), path


async def test_an_eviction_that_a_web_page_asks_for_is_403(ready: Asking) -> None:
    headers = {"Origin": "http://localhost:8000"}
    answer = await ready.operate("POST", "/admin/evict", {"identifier": "node-1"}, headers)
    assert (answer.status, answer.words["code"]) == (403, "forbidden")
    assert (await ready("GET", "/status/node-1")).words["registered"]
