"""`GET /`: what the page shows, to whom, and that nothing in it can run but its own script."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializedArtifacts,
    NotReady,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_core import (
    Condition,
    FleetStatus,
    HttpServer,
    NodeArtifactsBundle,
    NodeArtifactsBundleEntry,
    NodeRegistration,
    NodeStatus,
    StaticConfigSource,
)
from cfgsync_core.server.route import Call
from cfgsync_core.wire.status import StatusSource
from cfgsync_runtime import ServerCertificate, serving_snapshot, serving_source
from cfgsync_runtime.access.insecure import ProtectionStatus
from cfgsync_runtime.page.markup import el
from cfgsync_runtime.page.scan import SLICE
from cfgsync_runtime.page.views import Views
from tests.certificates import Authority

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
KEY = "-----BEGIN-KEY-that-nobody-may-see"


class App:
    """`/config` (text), `/key` (a secret) and `/raw` (binary) for each node; says what it is told."""

    def __init__(self) -> None:
        self.text = "one"
        self.key = KEY
        self.fail: str | None = None
        self.not_ready: NotReady | None = None

    def materialize_snapshot(self, nodes: RegistrationSnapshot) -> MaterializedArtifacts | NotReady:
        if self.fail is not None:
            raise ValueError(self.fail)
        if self.not_ready is not None:
            return self.not_ready
        own = {
            r.identifier: [
                ArtifactFile("/config", f"{r.identifier} {self.text}\n"),
                ArtifactFile("/key", self.key, "0600"),
                ArtifactFile("/raw", b"\xff"),
            ]
            for r in nodes
        }
        return MaterializedArtifacts.from_nodes(own).with_shared(
            [ArtifactFile("/all", f"shared {self.text}")]
        )


class Reader(HTMLParser):
    """What a document is made of, as a browser with scripts off would have it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, str] = {}
        self.words = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script" and dict(attrs).get("type"):
            self._in = "data"

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in in ("script", "style", "data"):
            self.inline[self._in] = self.inline.get(self._in, "") + data
        else:
            self.words += data

    def links(self) -> list[str]:
        return [href for tag, attrs in self.tags if tag == "a" and (href := attrs.get("href"))]


class Asking:
    """A client of one running server."""

    def __init__(self, server: HttpServer, session: aiohttp.ClientSession) -> None:
        self.url = server.url
        self._session = session

    async def page(self, query: str = "", status: int = 200, **headers: str) -> Reader:
        """The page; no answer ever holds the key."""
        text = await self.get(f"/{query}", status, **headers)
        return Reader(text)

    async def get(self, path: str, status: int = 200, **headers: str) -> str:
        named = {name.replace("_", "-"): word for name, word in headers.items()}
        async with self._session.get(self.url + path, headers=named) as response:
            text = await response.text()
            assert response.status == status, text
            assert KEY not in text
            return text

    async def headers(self, path: str = "/", method: str = "GET") -> Mapping[str, str]:
        async with self._session.request(method, self.url + path) as response:
            assert response.status == 200
            return response.headers

    async def post(self, path: str, words: object) -> tuple[int, Mapping[str, str]]:
        headers = {"Content-Type": "application/json", "Cfgsync-Accept": "base64, mode"}
        data = io.BytesIO(json.dumps(words).encode())
        async with self._session.post(self.url + path, data=data, headers=headers) as response:
            await response.read()
            return response.status, response.headers

    async def register(self, *names: str) -> None:
        for name in names:
            assert (await self.post("/register", {"identifier": name, "ip": "10.0.0.1"}))[0] == 202

    async def fetch(self, name: str) -> Mapping[str, str]:
        status, headers = await self.post("/node", {"identifier": name})
        assert status == 200
        return headers

    async def acknowledge(self, name: str, failed: str | None = None, drifted: Sequence[str] = ()) -> None:
        headers = await self.fetch(name)
        of = {"generation": headers["Cfgsync-Generation"]} if "Cfgsync-Generation" in headers else {}
        words = {
            "identifier": name,
            **of,
            "digest": headers["ETag"].strip('"'),
            "status": "applied" if failed is None else "failed",
            **({} if failed is None else {"reason": failed}),
            **({"drifted": list(drifted)} if drifted else {}),
        }
        assert (await self.post("/ack", words))[0] == 204


@asynccontextmanager
async def serving(app: App, **more: Any) -> AsyncIterator[Asking]:
    async with serving_snapshot(app, **more) as server, aiohttp.ClientSession() as session:
        yield Asking(server, session)


@pytest.fixture
async def app() -> App:
    return App()


@pytest.fixture
async def ask(app: App) -> AsyncIterator[Asking]:
    async with serving(app, page_contents=True) as asking:
        yield asking


def row(page: Reader, name: str) -> str:
    """What the table says of one node."""
    _, _, after = page.words.partition("last seenwhy")
    found = re.search(rf"{re.escape(name)}(.*?)(?=node-\d|Every node|As of)", after, re.DOTALL)
    assert found is not None, after
    return found[1]


def listed(page: Reader) -> list[str]:
    """The nodes of the table, in its order."""
    at = next(at for at, (tag, attrs) in enumerate(page.tags) if attrs.get("id") == "nodes")
    ends = next(at for at, (tag, attrs) in enumerate(page.tags) if attrs.get("id") == "grid")
    links = [attrs.get("href") or "" for tag, attrs in page.tags[at:ends] if tag == "a"]
    return [href.removeprefix("?node=") for href in links if href.startswith("?node=")]


async def test_each_node_is_a_row_with_its_state_and_why(ask: Asking) -> None:
    await ask.register("node-1", "node-2", "node-3", "node-4")
    await ask.fetch("node-2")
    await ask.acknowledge("node-3")
    await ask.acknowledge("node-4", failed="disk full")
    page = await ask.page()
    assert row(page, "node-1").startswith("10.0.0.1ready")
    assert row(page, "node-2").startswith("10.0.0.1served")
    assert row(page, "node-3").startswith("10.0.0.1applied")
    assert row(page, "node-4").startswith("10.0.0.1not applied")
    assert "disk full" in row(page, "node-4")
    assert listed(page) == ["node-4", "node-1", "node-2", "node-3"], (
        "failures first, and those that are done last"
    )
    assert "3 nodes have not applied it yet; 1 of them could not." in page.words


async def test_it_says_why_it_is_not_ready_and_who_is_missing(ask: Asking, app: App) -> None:
    app.not_ready = NotReady("waiting", [Condition("quorum", 1, 3, ("node-2", "node-3"))], retry_after=60)
    await ask.register("node-1")
    page = await ask.page()
    assert "Not ready" in page.words
    assert "quorum 1 of 3" in page.words
    assert "Missing: 2 nodes" in page.words
    assert {"?node=node-2", "?node=node-3"} <= set(page.links())
    missing = await ask.page("?state=not_registered")
    assert row(missing, "node-2").startswith("–not registered")


async def test_of_thousands_who_are_missing_a_thousand_are_named_and_no_number_is_made_up(
    ask: Asking, app: App
) -> None:
    names = tuple(f"node-{at:04}" for at in range(2_500))
    app.not_ready = NotReady("waiting", [Condition("quorum", 1, 2_501, names)], retry_after=60)
    await ask.register("a-node")
    page = await ask.page()
    assert "Missing: at least 1,000 nodes" in page.words
    assert "1,000+not registered" in page.words
    assert json.loads(page.inline["data"])["counts"]["not_registered"] == 1_000


async def test_everybody_has_applied_and_the_page_says_so(ask: Asking) -> None:
    await ask.register("node-1")
    await ask.acknowledge("node-1")
    assert "Every node has its files" in (await ask.page()).words


async def test_files_changed_on_a_node_are_named_and_the_page_is_not_green(ask: Asking) -> None:
    await ask.register("node-1")
    await ask.acknowledge("node-1", drifted=["/a", "/b"])
    page = await ask.page()
    assert "Files were changed on 1 node: node-1 (/a, /b)" in page.words
    assert "Every node has its files" not in page.words
    assert "applieddrifted" in row(page, "node-1").replace(" ", "")
    assert "changed on its disk" in (await ask.page("?node=node-1")).words


async def test_a_run_that_fails_is_said_beside_what_is_still_served(ask: Asking, app: App) -> None:
    await ask.register("node-1")
    await ask.fetch("node-1")
    app.fail = "no more addresses"
    await ask.register("node-2")
    await ask.post("/node", {"identifier": "node-2"})
    words = (await ask.page()).words
    assert "The newest run failed" in words
    assert "ValueError in test_page.py, line" in words
    assert "no more addresses" not in words
    assert "Generation 1 is still served." in words


async def test_what_others_say_is_shown_and_never_becomes_markup(ask: Asking, app: App) -> None:
    plain = Reader(await ask.get("/"))
    app.not_ready = NotReady(HOSTILE, [Condition(HOSTILE, 0, 1, (HOSTILE,))], retry_after=60)
    await ask.register("node-1")
    page = await ask.page()
    assert page.words.count("<script>alert(1)</script>") >= 3  # the reason, the condition, who is missing
    assert "<" not in page.inline["data"]
    assert HOSTILE in json.loads(page.inline["data"])["names"]
    for seen in (page, await ask.page("?node=%3Cscript%3Ealert(1)%3C/script%3E")):
        assert [tag for tag, _ in seen.tags].count("script") <= [tag for tag, _ in plain.tags].count("script")
        assert not any(tag == "img" for tag, _ in seen.tags)
        assert not any(name.startswith("on") or name == "style" for _, attrs in seen.tags for name in attrs)


async def test_words_that_cannot_be_encoded_are_shown_without_what_cannot(ask: Asking, app: App) -> None:
    app.not_ready = NotReady("no \udc80", [Condition("q\udc81", 0, 1, ("m\udc82",))], retry_after=60)
    await ask.register("node-1")
    assert "q? 0 of 1" in (await ask.page()).words
    assert json.loads(await ask.get("/status"))["missing"][0]["identifier"] == "m?"


async def test_a_failure_of_a_node_and_a_file_never_become_markup(ask: Asking, app: App) -> None:
    app.text = HOSTILE
    await ask.register("node-1")
    await ask.acknowledge("node-1", failed=HOSTILE)
    for query in ("", "?node=node-1", "?generation=1"):
        page = await ask.page(query)
        assert not any(tag == "img" for tag, _ in page.tags)
    page = await ask.page("?node=node-1")
    assert page.words.count("<script>alert(1)</script>") >= 3  # why, its file, the shared one


async def test_the_policy_lets_our_script_and_style_run_and_nothing_else(ask: Asking) -> None:
    await ask.register("node-1")
    for path in ("/", "/?node=node-1", "/?generation=1", "/?state=served"):
        headers = await ask.headers(path)
        policy = dict(
            part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";")
        )
        page = Reader(await ask.get(path))
        for kind in ("script", "style"):
            digest = base64.b64encode(sha256(page.inline[kind].encode()).digest()).decode()
            assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == policy["form-action"] == "'self'"
        for name in ("base-uri", "frame-ancestors"):
            assert policy[name] == "'none'"
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Content-Type"] == "text/html; charset=utf-8"


async def test_nothing_is_loaded_from_elsewhere(ask: Asking) -> None:
    await ask.register("node-1")
    page = await ask.page()
    for tag, attrs in page.tags:
        for name in ("src", "srcset", "data"):
            assert not attrs.get(name), (tag, attrs)
        assert attrs.get("action") in (None, "./"), (tag, attrs)
        if href := attrs.get("href"):
            assert not re.match(r"[a-z]+:|//", href) or href.startswith("data:image/svg+xml,"), href
    assert "http" not in page.inline["style"]
    assert "http" not in page.inline["script"]


async def test_a_nodes_page_shows_its_files_and_never_a_secret(ask: Asking) -> None:
    await ask.register("node-1")
    page = await ask.page("?node=node-1")
    assert "node-1 one" in page.words
    assert "shared one" in page.words
    assert "/key0600secret" in page.words
    assert "/raw0644 · 1 B · binary" in page.words
    told = json.dumps(page.tags) + page.words
    assert sha256(KEY.encode()).hexdigest() not in told  # what can be guessed could be confirmed with it
    assert f"{len(KEY)} B" not in told


async def test_what_changed_between_two_generations_is_shown_and_of_a_secret_only_that(
    ask: Asking, app: App
) -> None:
    await ask.register("node-1")
    await ask.fetch("node-1")
    app.text, app.key = "two", KEY + "2"
    await ask.register("node-2")
    await ask.fetch("node-2")
    assert "?from=1&to=2" in (await ask.page()).links()
    page = await ask.page("?from=1&to=2")
    assert "-shared one+shared two" in page.words
    assert "-node-1 one+node-1 two" in page.words
    assert "+node-2 two" in page.words
    assert "/keychangedsecret" in page.words
    assert "same files in both" in (await ask.page("?from=1&to=1")).words
    assert "are not held" in (await ask.page("?from=1&to=7", status=404)).words
    assert "node-2" in (await ask.page("?generation=2")).words
    assert "are not held" in (await ask.page("?generation=%3Cb%3E", status=404)).words


async def test_a_stranger_has_a_page_that_says_so(ask: Asking) -> None:
    page = await ask.page("?node=web-9")
    assert "web-9 is not registered" in page.words
    assert "not registered" in page.words


def test_words_that_turn_round_what_stands_beside_them_are_spelled_out() -> None:
    assert el("p", "a\u202eb\u2066<", title="\u200f") == '<p title="\\u200f">a\\u202eb\\u2066&lt;</p>'


async def test_the_table_is_bounded_and_leads_on_to_every_node(ask: Asking) -> None:
    names = [f"node-{at:03}" for at in range(230)]
    await ask.register(*names)
    await ask.fetch(
        "node-229"
    )  # from now on they are all in one generation, and this one is the last of the list
    found: list[str] = []
    query = ""
    while True:
        page = await ask.page(query)
        here = [href.removeprefix("?node=") for href in page.links() if href.startswith("?node=")]
        assert len(here) <= 25
        found += here
        further = [href for href in page.links() if "after=" in href]
        if not further:
            break
        query = further[0].partition("#")[0]
    assert found == names


class Counted(StatusSource):
    """Another source, and how often all of its nodes were looked at."""

    def __init__(self, source: StatusSource) -> None:
        self.source = source
        self.looks = 0

    def fleet(self, limit: int, after: str) -> FleetStatus:
        return self.source.fleet(limit, after)

    def nodes(self, limit: int, after: str) -> Sequence[NodeStatus]:
        self.looks += limit == SLICE and not after
        return self.source.nodes(limit, after)

    def node(self, identifier: str) -> NodeStatus:
        return self.source.node(identifier)

    async def ping(self) -> None:
        await self.source.ping()


async def test_a_crowd_of_readers_costs_few_looks_and_each_sees_what_was_there_when_it_asked() -> None:
    async with RegistrationConfigSource(App()) as source:
        for at in range(3 * SLICE):
            await source.register(NodeRegistration(f"node-{at:04}", "10.0.0.1"))
        counted = Counted(source)
        views = Views(counted, source)
        first = asyncio.create_task(views.answer(Call()))
        while not counted.looks:
            await asyncio.sleep(0)
        await source.register(NodeRegistration("the-last", "10.0.0.1"))
        crowd = await asyncio.gather(*(views.answer(Call()) for _ in range(50)))
        assert 2 <= counted.looks <= 3  # 51 asked
        assert all(b"the-last" in reply.chunks[0] for reply in crowd)
        assert len({id(reply.chunks[0]) for reply in crowd}) <= 2
        await first


async def test_whoever_accepts_json_gets_what_the_grid_is_drawn_from(ask: Asking) -> None:
    await ask.register("node-1", "node-2")
    await ask.fetch("node-2")
    words = json.loads(await ask.get("/", Accept="application/json"))
    assert words["names"] == ["node-1", "node-2"]
    assert [words["kinds"][letter] for letter in words["states"]] == ["ready", "served"]
    assert words["counts"]["served"] == 1
    assert Reader(await ask.get("/", Accept="text/html,application/json;q=0.9")).words


async def test_head_answers_the_same_headers_and_no_other_method_is_taken(ask: Asking) -> None:
    assert (await ask.headers("/", "HEAD"))["Content-Type"] == "text/html; charset=utf-8"
    status, headers = await ask.post("/", {})
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


async def test_a_name_that_was_made_to_lead_here_gets_nothing(ask: Asking) -> None:
    """DNS rebinding: the attacker's page is of the same origin to the browser; only its name tells it."""
    await ask.register("node-1")
    for path in ("/", "/?node=node-1"):
        said = await ask.get(path, 403, Host="attacker.example:4400")
        assert json.loads(said)["code"] == "forbidden"
    for name in ("localhost:4400", "127.0.0.1", "[::1]:4400", "cfgsync.localhost", "10.0.0.7:80"):
        await ask.page(Host=name)


async def test_without_page_contents_the_page_shows_paths_and_sizes_and_says_where_the_rest_is(
    app: App,
) -> None:
    async with serving(app) as ask:
        await ask.register("node-1")
        await ask.fetch("node-1")
        page = await ask.page("?node=node-1")
        assert "/config0644 · 11 B" in page.words
        assert "node-1 one" not in page.words
        assert "rack" not in page.words
        assert "address10.0.0.1" in page.words
        assert "cfgsync generation show --contents" in page.words
        app.text = "two"
        await ask.register("node-2")
        await ask.fetch("node-2")
        words = (await ask.page("?from=1&to=2")).words
        assert "/allchanged" in words
        assert "shared two" not in words


async def test_over_the_admin_socket_the_page_shows_contents(app: App) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        by_socket = aiohttp.UnixConnector(path)
        async with (
            serving_snapshot(app, admin_socket=path) as server,
            aiohttp.ClientSession(connector=by_socket) as session,
        ):
            ask = Asking(server, session)
            await ask.register("node-1")
            assert "node-1 one" in (await ask.page("?node=node-1", Host="cfgsync.example")).words
            assert "node-1 one" not in (await ask.page("?node=node-1", Origin="http://x")).words


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Via", "Forwarded", "X-Real-IP", "Origin"])
async def test_a_request_that_a_proxy_or_another_page_sends_gets_no_contents(
    ask: Asking, header: str
) -> None:
    await ask.register("node-1")
    await ask.post("/register", {"identifier": "node-1", "ip": "10.0.0.1", "metadata": {"rack": 7}})
    assert "rack" in (await ask.page("?node=node-1")).words
    page = await ask.page("?node=node-1", **{header.replace("-", "_"): "http://attacker.example"})
    assert "node-1 one" not in page.words
    assert "rack" not in page.words, "metadata is an operator's; the address is in every list"


async def test_off_loopback_it_is_served_only_where_nothing_is_asked_of_anybody(app: App) -> None:
    async with serving(app, host="0.0.0.0", lacking=("no-tls", "no-auth")) as ask:
        page = await ask.page(Host="cfgsync.internal:4400")
        assert "Insecure" in page.words
        assert "--insecure-no-auth" in page.words


@pytest.mark.parametrize(
    ("days", "says"), [(30.5, None), (29.5, "it ends in 29 days."), (-0.5, "it has expired.")]
)
async def test_the_page_warns_of_a_certificate_that_ends_soon(
    tmp_path: Path, days: float, says: str | None
) -> None:
    pair = Authority(tmp_path).pair(begins=-9, ends=days)
    tls = ServerCertificate(str(pair[0]), str(pair[1]))
    reply = await Views(ProtectionStatus(StaticConfigSource({}), (), {}, tls.status), None).answer(Call())
    (section,) = re.findall(r'<section id="certificate".*?</section>', reply.chunks[0].decode())
    assert ("hidden" in section) is (says is None)
    assert says is None or f"Certificate of this server: </strong>{says}" in section


async def test_no_page_turns_it_off_and_openapi_knows(app: App) -> None:
    async with serving(app, page=False) as ask:
        assert json.loads(await ask.get("/", 404))["code"] == "not_found"
        assert "/" not in json.loads(await ask.get("/openapi.json"))["paths"]
    async with serving(app) as ask:
        assert "/" in json.loads(await ask.get("/openapi.json"))["paths"]


async def test_a_bundle_has_the_same_page_with_the_same_states() -> None:
    entries = tuple(
        NodeArtifactsBundleEntry(
            name, ArtifactSet([ArtifactFile("/a", "x"), ArtifactFile("/key", KEY, "0600")])
        )
        for name in ("node-1", "node-2")
    )
    source = StaticConfigSource.from_bundle(NodeArtifactsBundle(entries))
    known = {"acknowledging": source, "details": source}
    async with (
        serving_source(source, source, title="the bundle", **known) as server,
        aiohttp.ClientSession() as session,
    ):
        ask = Asking(server, session)
        await ask.register("node-1")
        await ask.acknowledge("node-1")
        page = await ask.page()
        assert "Convergingconverging" not in page.words
        assert "The bundle is served. 1 node has not applied it yet." in page.words
        assert row(page, "node-1").startswith("10.0.0.1applied")
        assert row(page, "node-2").startswith("–ready")
        assert page.words.strip().startswith("Converging · the bundle · cfgsync")
        files = (await ask.page("?node=node-2")).words
        assert "/a0644 · 1 B" in files
        assert "/a0644 · 1 B\nx" not in files
        assert "/key0600secret" in files
        await ask.acknowledge("node-2", failed="disk full")
        words = (await ask.page()).words
        assert "A node could not apply its files" in words
        assert "The bundle is served. 1 node could not apply it." in words
        await ask.acknowledge("node-2")
        assert "Every node has applied the bundle." in (await ask.page()).words
    async with (
        serving_source(source, source, details=source, page_contents=True) as server,
        aiohttp.ClientSession() as session,
    ):
        assert "/a0644 · 1 B\nx" in (await Asking(server, session).page("?node=node-2")).words
    async with serving_source(source, source, page=False) as server, aiohttp.ClientSession() as session:
        await Asking(server, session).get("/", 404)


async def test_the_filter_looks_through_every_node_and_not_only_through_the_page_of_the_table(
    ask: Asking,
) -> None:
    await ask.register(*(f"node-{at:03}" for at in range(230)))
    await ask.post("/register", {"identifier": "node-007", "ip": "10.9.9.7"})
    await ask.fetch("node-007")
    await ask.acknowledge("node-229", failed="No space left on device")
    for words, found in (
        ("22", ["node-229", "node-022", "node-122", *(f"node-{at}" for at in range(220, 229))]),
        ("10.9.9", ["node-007"]),
        ("no SPACE", ["node-229"]),
        ("not_applied", ["node-229"]),
        ("nobody", []),
    ):
        page = await ask.page(f"?find={words.replace(' ', '+')}")
        assert listed(page) == found
        marks = json.loads(page.inline["data"])
        assert marks["found"].count("1") == len(listed(page))
    assert "No node has “nobody”" in page.words
    both = await ask.page("?find=node-2&state=ready")
    assert "not_applied" not in both.words
    assert "1 to 25 of 29" in both.words
    assert ("input", {"type": "hidden", "name": "state", "value": "ready"}) in both.tags


async def test_a_filtered_table_is_walked_to_its_end(ask: Asking) -> None:
    names = [f"node-{at:03}" for at in range(230)]
    await ask.register(*names)
    await ask.fetch("node-229")
    await ask.acknowledge("node-150", failed="disk full")
    found: list[str] = []
    query = "?find=node-1"
    while query:
        page = await ask.page(query)
        found += listed(page)
        query = next((href.partition("#")[0] for href in page.links() if "after=" in href), "")
    assert found == [
        "node-150",
        *(name for name in names if name.startswith("node-1") and name != "node-150"),
    ]


async def test_a_missing_node_is_found_too(ask: Asking, app: App) -> None:
    app.not_ready = NotReady("waiting", [Condition("quorum", 1, 3, ("web-2", "web-3"))], retry_after=60)
    await ask.register("node-1")
    assert listed(await ask.page("?find=web")) == ["web-2", "web-3"]
    assert listed(await ask.page()) == ["node-1"]


async def test_the_page_has_a_title_and_by_default_it_is_the_hosts_name(app: App) -> None:
    for given, shown in ((None, socket.gethostname()), ("blue <fleet>", "blue <fleet>")):
        async with serving(app, title=given) as ask:
            page = await ask.page()
            assert page.words.strip().startswith(f"No node is registered · {shown} · cfgsync")


async def test_a_fleet_to_which_nothing_is_given_is_never_green(ask: Asking) -> None:
    async with serving(Nothing()) as nobody:
        await nobody.register("node-1")
        await nobody.post("/node", {"identifier": "node-1"})
        page = await nobody.page()
        assert "No node gets any files" in page.words
        assert not any(tag == "section" and "good" in (attrs.get("class") or "") for tag, attrs in page.tags)


class Nothing:
    def materialize_snapshot(self, nodes: RegistrationSnapshot) -> MaterializedArtifacts:
        return MaterializedArtifacts.from_nodes({"somebody-else": [ArtifactFile("/a", "b")]})


async def test_every_count_of_the_page_is_a_count_of_the_status_and_of_the_metrics(
    ask: Asking, app: App
) -> None:
    await ask.register("node-1", "node-2", "node-3", "node-4")
    await ask.fetch("node-2")
    await ask.acknowledge("node-3")
    await ask.acknowledge("node-4", failed="disk full")
    app.not_ready = NotReady("waiting", [Condition("quorum", 5, 7, ("node-6", "node-7"))], retry_after=60)
    await ask.register("node-5")
    await ask.post("/node", {"identifier": "node-5"})
    page = await ask.page()
    counts = json.loads(page.inline["data"])["counts"]
    assert counts == {
        "failed": 0, "not_applied": 1, "no_files": 0, "not_registered": 2,
        "not_ready": 1, "ready": 1, "served": 1, "applied": 1,
    }  # fmt: skip
    status = json.loads(await ask.get("/status"))
    assert status["counts"] == counts
    assert (status["applied"], status["registered"]) == (1, 5)
    assert "5 registered" in page.words
    figures = await ask.get("/metrics")
    for state, count in counts.items():
        assert f'cfgsync_nodes{{state="{state}"}} {count}.0' in figures


async def test_every_time_is_utc_with_a_z(ask: Asking) -> None:
    await ask.register("node-1")
    await ask.fetch("node-1")
    for query in ("", "?node=node-1", "?generation=1"):
        page = await ask.page(query)
        assert "UTC" not in page.words
        times = re.findall(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(.)", page.words)
        assert set(times) == {"Z"}


async def test_an_address_that_is_longer_than_a_name_and_odd_queries_break_nothing(ask: Asking) -> None:
    for query in ("?node=" + "x" * 3000, "?node=", "?state=nothing", "?after=%00%ff", "?from=1", "?limit=-1"):
        async with aiohttp.ClientSession() as session, session.get(f"{ask.url}/{query}") as response:
            assert response.status in (200, 404)
            assert "Content-Security-Policy" in response.headers
