"""What an operator's routes answer, over a real source and a real server on loopback."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, NotReady, RegistrationSnapshot
from cfgsync_core import HttpServer
from cfgsync_runtime import serving_snapshot


class App:
    """`/config` (text), `/key` (a secret) and `/raw` (binary) for each node; says what it is told."""

    def __init__(self, least: int = 1) -> None:
        self.least = least
        self.text = "one"
        self.fail: str | None = None
        self.not_ready: str | None = None

    def materialize_snapshot(self, nodes: RegistrationSnapshot) -> MaterializedArtifacts | NotReady:
        if self.fail is not None:
            raise ValueError(self.fail)
        if self.not_ready is not None:
            return NotReady(self.not_ready)
        if len(nodes) < self.least:
            return NotReady("more")
        own = {
            r.identifier: [
                ArtifactFile("/config", f"{r.identifier} {self.text}\n"),
                ArtifactFile("/key", "SECRET", "0600"),
                ArtifactFile("/raw", b"\xff"),
            ]
            for r in nodes
        }
        return MaterializedArtifacts.from_nodes(own).with_shared([ArtifactFile("/all", "shared")])


class Asking:
    """A client of one running server, by its admin socket."""

    def __init__(self, server: HttpServer, session: aiohttp.ClientSession) -> None:
        self._url = server.url
        self._session = session

    async def get(self, path: str, status: int = 200) -> Any:
        async with self._session.get(self._url + path) as response:
            text = await response.text()
            assert response.status == status, text
            assert "SECRET" not in text
            return json.loads(text)

    async def post(self, path: str, words: object, status: int = 200) -> Any:
        data = words if isinstance(words, bytes) else json.dumps(words).encode()
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._url + path, data=io.BytesIO(data), headers=headers) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if text else None

    async def register(self, *names: str) -> None:
        for name in names:
            await self.post("/register", {"identifier": name, "ip": "10.0.0.1"}, 202)

    async def files(self, name: str) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Cfgsync-Accept": "base64, mode"}
        data = json.dumps({"identifier": name}).encode()
        async with self._session.post(self._url + "/node", data=data, headers=headers) as response:
            assert response.status == 200, await response.text()
            return {file["path"]: file["content"] for file in (await response.json())["files"]}


@asynccontextmanager
async def serving(app: App, **more: Any) -> AsyncIterator[Asking]:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        async with (
            serving_snapshot(app, admin_socket=path, **more) as server,
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
        ):
            yield Asking(server, session)


async def test_renew_says_what_became_of_it() -> None:
    app = App(3)
    async with serving(app) as ask:
        nobody = await ask.post("/admin/renew", {}, 202)
        assert nobody["outcome"] == "pending"
        await ask.register("a", "b", "c")
        await ask.files("a")
        assert (await ask.post("/admin/renew", {}))["outcome"] == "equal"
        app.text = "two"
        said = await ask.post("/admin/renew", {})
        assert said["outcome"] == "new"
        assert said["generation"].endswith(".2")
        app.not_ready = "later"
        assert (await ask.post("/admin/renew", {}))["reason"] == "later"
        app.not_ready, app.fail = None, "bad"
        failed = await ask.post("/admin/renew", {})
        assert failed["outcome"] == "failed"
        assert "bad" in failed["reason"]
        assert failed["generation"] == said["generation"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 422, "body"),
        (b'{"accept":1}', 422, "accept"),
        (b'{"accept":true,"accept":false}', 422, "accept"),
    ],
)
async def test_a_renewal_that_is_none_claims_nothing(body: bytes, status: int, field: str) -> None:
    async with serving(App()) as ask:
        await ask.register("a")
        await ask.files("a")
        assert (await ask.post("/admin/renew", body, status))["message"].startswith(field)
        assert (await ask.get("/admin/generations"))["generations"][0]["claim"] == 0


@pytest.mark.parametrize(
    ("words", "status", "field"),
    [
        (b"{", 400, "not JSON"),
        ({"files": []}, 422, "identifier"),
        ({"identifier": "../a", "files": []}, 422, "identifier"),
        ({"identifier": "a", "files": [{"path": "/x"}]}, 422, "files"),
        ({"identifier": "a", "files": [{"path": "/x", "content": 1}]}, 422, "files"),
        ({"identifier": "a", "files": [{"path": "", "content": ""}]}, 422, "files[0]"),
        ({"identifier": "a", "files": [{"path": "/x", "content": "", "mode": "4755"}]}, 422, "files[0]"),
        (
            {"identifier": "a", "files": [{"path": "/x", "content": "%", "encoding": "base64"}]},
            422,
            "files[0]",
        ),
        ({"identifier": "a", "files": [{"path": "/x", "content": "", "encoding": "gz"}]}, 422, "files[0]"),
        ({"identifier": "a", "files": [{"path": "/x", "content": ""}] * 2}, 422, "files"),
        ({"identifier": "a", "files": [{"path": "/all", "content": ""}]}, 422, "files"),
        ({"identifier": "a", "files": [{"path": "/../x", "content": ""}]}, 422, "files"),
        ({"identifier": "a", "files": [{"path": f"/{i}", "content": ""} for i in range(1001)]}, 422, "files"),
    ],
)
async def test_a_replacement_that_no_node_takes_is_refused_with_its_field(
    words: object, status: int, field: str
) -> None:
    async with serving(App()) as ask:
        await ask.register("a")
        before = await ask.files("a")
        assert (await ask.post("/node/replace", words, status))["message"].startswith(field)
        await ask.post("/admin/renew", {})
        assert await ask.files("a") == before


async def test_a_replacement_of_more_than_16_mib_is_413() -> None:
    big = {"identifier": "a", "files": [{"path": "/x", "content": "x" * (16 * 1024 * 1024)}]}
    async with serving(App()) as ask:
        await ask.post("/node/replace", big, 413)


async def test_a_replaced_node_is_told_everywhere() -> None:
    async with serving(App()) as ask:
        await ask.register("a", "b")
        await ask.files("a")
        assert (
            await ask.post(
                "/node/replace",
                {"identifier": "a", "files": [{"path": "/mine", "content": "x", "mode": "0600"}]},
                202,
            )
            is None
        )
        await ask.post("/admin/renew", {})
        assert await ask.files("a") == {"/mine": "x", "/all": "shared"}
        assert "operator" in (await ask.get("/status/a"))["reason"]
        newest = (await ask.get("/admin/generations"))["generations"][0]
        assert newest["replaced"] == ["a"]
        shown = await ask.get(f"/admin/generations?number={newest['number']}&contents=1")
        assert [node.get("replaced", False) for node in shown["nodes"]] == [True, False]
        await ask.post("/node/replace", {"identifier": "a"}, 202)
        await ask.post("/admin/renew", {})
        assert "/config" in await ask.files("a")


async def test_generations_are_listed_shown_and_compared_without_secrets() -> None:
    app = App(3)
    async with serving(app) as ask:
        assert (await ask.get("/admin/generations"))["generations"] == []
        await ask.register("a", "b", "c")
        for text in ("one", "two", "three"):
            app.text = text
            await ask.post("/admin/renew", {})
        heads = (await ask.get("/admin/generations"))["generations"]
        assert [head["number"] for head in heads] == [3, 2, 1]
        assert [head["contents"] for head in heads] == [True, True, False]
        assert all(head["nodes"] == 3 and head["at"].startswith("20") for head in heads)
        shown = await ask.get("/admin/generations?number=3")
        assert [file["path"] for file in shown["shared"]] == ["/all"]
        config, key, raw = shown["nodes"][0]["files"]
        assert "content" not in config
        assert key["omitted"] == "secret"
        assert (raw["size"], raw["mode"]) == (1, "0644")
        with_contents = await ask.get("/admin/generations?number=3&contents=1")
        assert with_contents["nodes"][1]["files"][0]["content"] == "b three\n"
        difference = await ask.get("/admin/generations?from=2&to=3")
        assert difference["shared"] == []
        assert [(node["identifier"], node["change"]) for node in difference["nodes"]] == [
            (name, "changed") for name in "abc"
        ]
        (changed,) = difference["nodes"][0]["files"]
        assert (changed["path"], changed["before"]["content"], changed["after"]["content"]) == (
            "/config",
            "a two\n",
            "a three\n",
        )
        refused = await ask.get("/admin/generations?number=1", 422)
        assert "the server holds those of 3 and 2" in refused["message"]


async def test_pages_end_where_they_are_told_to_and_miss_nobody() -> None:
    names = [f"n{i}" for i in range(7)]
    app = App(7)
    async with serving(app) as ask:
        await ask.register(*names)
        await ask.post("/admin/renew", {})
        app.text = "two"
        await ask.post("/admin/renew", {})
        for path in ("number=2", "from=1&to=2"):
            found, after = [], ""
            while after is not None:
                page = await ask.get(f"/admin/generations?{path}&limit=3&after={after}")
                assert len(page["nodes"]) <= 3
                assert bool(page["shared"]) is (path == "number=2" and not after)
                found += [node["identifier"] for node in page["nodes"]]
                after = page["next"]
            assert found == names


async def test_a_snapshot_is_one_cut_also_while_its_pages_are_asked_for() -> None:
    names = [f"n{i}" for i in range(5)]
    app = App(5)
    async with serving(app) as ask:
        await ask.register(*names)
        await ask.post("/admin/renew", {})
        page = await ask.get("/admin/snapshot?limit=2")
        await ask.register("n0x", "zz")
        app.text = "two"
        await ask.post("/admin/renew", {})
        pages = [page]
        while pages[-1]["next"] is not None:
            pages.append(
                await ask.get(f"/admin/snapshot?limit=2&cut={page['cut']}&after={pages[-1]['next']}")
            )
        assert [r["identifier"] for page in pages for r in page["registrations"]] == names
        nodes = [node for page in pages for node in page["nodes"]]
        assert [node["identifier"] for node in nodes] == names
        assert {node["files"][0]["content"][3:] for node in nodes} == {"one\n"}
        assert len({page["version"] for page in pages}) == 1
        await ask.get(f"/admin/snapshot?cut={page['cut']}", 404)  # it was told to its end


async def test_large_contents_are_told_by_their_digests() -> None:
    class Large:
        def materialize_snapshot(self, nodes: RegistrationSnapshot) -> MaterializedArtifacts:
            return MaterializedArtifacts.from_nodes(
                {
                    name: [ArtifactFile(f"/{i}", name * 100_000) for i in range(40)]
                    + [ArtifactFile("/big", "x" * 300_000)]
                    for name in nodes.identifiers
                }
            )

    async with serving(Large()) as ask:  # type: ignore[arg-type]
        await ask.register("aa", "bb")
        number = (await ask.post("/admin/renew", {}))["generation"].rpartition(".")[2]
        page = await ask.get(f"/admin/generations?number={number}&contents=1")
        assert page["next"] == "aa"
        files = page["nodes"][0]["files"]
        assert files[-1] == {
            "path": "/big",
            "size": 300_000,
            "mode": "0644",
            "digest": files[-1]["digest"],
            "omitted": "large",
        }
        assert 0 < sum("content" in file for file in files) < 40
