"""Surface one over real sockets: every row of its table, its errors, and who may call it."""

from __future__ import annotations

import asyncio
import os
import pwd
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from cfgsync_adapter import MaterializedArtifacts
from cfgsync_core import Backend, Gap, MemoryStore, Version
from cfgsync_documents import DocumentName, Scope
from cfgsync_documents.service import Documents
from cfgsync_runtime.compose.document_server import serving_documents
from cfgsync_runtime.compose.fleet_server import serving_snapshot
from tests.documents.bus import Bus

ROOT = "/api/v1/config"
PRODUCTION = {"X-Cfgsync-Environment": "production"}


@asynccontextmanager
async def opened(**more) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serving_documents(open_documents=True, **more) as server,
        aiohttp.ClientSession(server.url, headers=PRODUCTION) as session,
    ):
        yield session


async def answer(session: aiohttp.ClientSession, method: str, path: str, **more) -> tuple[int, object]:
    async with session.request(method, ROOT + path, **more) as reply:
        return reply.status, (await reply.json() if await reply.read() else None)


async def test_set_replaces_patch_merges_get_and_list_show_and_delete_is_idempotent():
    async with opened() as session:
        assert await answer(session, "POST", "/theme", json={"a": 1, "b": 2}) == (
            200,
            {"name": "theme", "revision": 1},
        )
        assert await answer(session, "POST", "/theme", json={"a": {"x": 1}}) == (
            200,
            {"name": "theme", "revision": 2},
        )
        assert await answer(session, "PATCH", "/theme", json={"b": None}) == (
            200,
            {"name": "theme", "revision": 3},
        )
        status, found = await answer(session, "GET", "/theme")
        assert found.pop("updatedAt").endswith("Z")
        assert (status, found) == (200, {"name": "theme", "data": {"a": {"x": 1}, "b": None}, "revision": 3})
        merge = {"Content-Type": "application/merge-patch+json"}
        patched = await answer(session, "PATCH", "/theme", data=b'{"b":null,"a":{"y":2}}', headers=merge)
        assert patched == (200, {"name": "theme", "revision": 4})
        assert (await answer(session, "GET", "/theme"))[1]["data"] == {"a": {"x": 1, "y": 2}}
        assert await answer(session, "PATCH", "/new", json={"x": 1}) == (200, {"name": "new", "revision": 5})
        status, found = await answer(session, "GET", "")
        assert [(one["name"], one["revision"], set(one)) for one in found["configs"]] == [
            ("new", 5, {"name", "revision", "updatedAt"}),
            ("theme", 4, {"name", "revision", "updatedAt"}),
        ]
        assert [await answer(session, "DELETE", "/theme") for _ in range(2)] == [(204, None)] * 2
        assert await answer(session, "GET", "/theme") == (404, {"error": "config not found"})


async def test_numbers_come_back_as_they_were_spelled():
    async with opened() as session:
        body = b'{"one": 1.0, "big": 9223372036854775808}'
        await session.post(f"{ROOT}/n", data=body, headers={"Content-Type": "application/json"})
        assert (
            b'"data":{"one":1.0,"big":9223372036854775808},' in await (await session.get(f"{ROOT}/n")).read()
        )


async def test_preconditions_are_checked_and_a_failed_one_is_412():
    failed = "config write precondition failed"
    async with opened() as session:
        create = {"If-None-Match": "*"}
        assert (await answer(session, "POST", "/a", json={}, headers=create))[0] == 200
        for method in ("POST", "PATCH"):
            found = await answer(session, method, "/a", json={}, headers=create)
            assert found == (412, {"error": failed, "expected": 0, "found": 1})
            found = await answer(session, method, "/a", json={"x": 1}, headers={"If-Match": "7"})
            assert found == (412, {"error": failed, "expected": 7, "found": 1})
        assert (await answer(session, "DELETE", "/a", headers={"If-Match": "7"}))[0] == 412
        assert (await answer(session, "DELETE", "/absent", headers={"If-Match": "7"}))[0] == 412
        tag = (await session.get(f"{ROOT}/a")).headers["ETag"]
        assert (await answer(session, "POST", "/a", json={"x": 1}, headers={"If-Match": tag}))[0] == 200
        assert (await answer(session, "POST", "/a", json={"x": 2}, headers={"If-Match": tag}))[0] == 412
        foreign = {"If-Match": '"01900000-0000-7000-8000-000000000000.2"'}
        assert (await answer(session, "PATCH", "/a", json={"x": 2}, headers=foreign))[0] == 412
        for wrong in (
            {"If-Match": "x"},
            {"If-Match": "0"},
            {"If-Match": '"x.1"'},
            {"If-None-Match": '"1"'},
            {"If-Match": "x", **create},
        ):
            status, said = await answer(session, "POST", "/a", json={}, headers=wrong)
            assert status == 400, wrong
            assert "If-Match" in said["error"]
            assert "UUID" not in said["error"]
        both = {"If-Match": "2", **create}  # never both hold
        assert (await answer(session, "POST", "/a", json={}, headers=both))[0] == 412
        assert (await answer(session, "POST", "/absent", json={}, headers=both))[0] == 412
        assert (await answer(session, "PATCH", "/a", json={"y": 2}, headers={"If-Match": "2"}))[0] == 200
        assert (await answer(session, "DELETE", "/a", headers={"If-Match": "3"}))[0] == 204


async def test_a_get_with_the_tag_is_304_and_with_another_or_a_bare_number_the_document():
    async with opened() as session:
        await answer(session, "POST", "/a", json={})
        tag = (await session.get(f"{ROOT}/a")).headers["ETag"]
        for known, status in ((tag, 304), ("1", 200), ('"1"', 200), ('"x.1"', 200), (f'"x", {tag}', 304)):
            reply = await session.get(f"{ROOT}/a", headers={"If-None-Match": known})
            assert (reply.status, reply.headers["ETag"]) == (status, tag), known
            assert (await reply.read() == b"") == (status == 304)


async def test_a_held_get_answers_when_its_document_changes_and_not_before():
    async with opened() as session:
        await answer(session, "POST", "/a", json={})
        tag = (await session.get(f"{ROOT}/a")).headers["ETag"]
        headers = {"If-None-Match": tag, "Prefer": "wait=30"}
        held = asyncio.create_task(session.get(f"{ROOT}/a", headers=headers))
        for number in range(3):
            await answer(session, "POST", f"/other{number}", json={})
        assert not held.done()
        await answer(session, "PATCH", "/a", json={"x": 1})
        reply = await held
        assert (reply.status, (await reply.json())["data"]) == (200, {"x": 1})
        headers["If-None-Match"] = reply.headers["ETag"]
        held = asyncio.create_task(session.get(f"{ROOT}/a", headers=headers))
        await answer(session, "DELETE", "/a")
        assert (await held).status == 404


async def test_a_held_get_that_sees_no_change_is_304_in_the_end():
    async with opened() as session:
        await answer(session, "POST", "/a", json={})
        tag = (await session.get(f"{ROOT}/a")).headers["ETag"]
        reply = await session.get(f"{ROOT}/a", headers={"If-None-Match": tag, "Prefer": "wait=1"})
        assert reply.status == 304


async def test_environments_apps_and_namespaces_are_apart():
    async with opened() as session:
        await answer(session, "POST", "/a", json={"in": "production"})
        elsewhere = [
            ("/a", {"X-Cfgsync-Environment": "staging"}),
            ("/a?app=lobby", {}),
            ("/a?namespace=limits", {}),
        ]
        for path, headers in elsewhere:
            assert (await answer(session, "GET", path, headers=headers))[0] == 404, path
            assert (await answer(session, "POST", path, json={"in": path}, headers=headers))[0] == 200
        assert (await answer(session, "GET", "/a"))[1]["data"] == {"in": "production"}
        async with aiohttp.ClientSession(session._base_url) as plain:
            for ask in (
                {"headers": {"X-Ironflow-Environment": "production"}},
                {"params": {"environment": "production"}},
            ):
                assert (await answer(plain, "GET", "/a", **ask))[1]["data"] == {"in": "production"}
            assert (await answer(plain, "GET", "/a"))[0] == 404  # the environment `default`


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/a", b"[]", {}, 400),
        ("/a", b"null", {}, 400),
        ("/a", b'{"a":1,"a":2}', {}, 400),
        ("/a", b"{", {}, 400),
        ("/a b", b"{}", {}, 400),
        ("/a", b"{}", {"X-Cfgsync-Environment": "a/b"}, 400),
        ("/a?namespace=a.b", b"{}", {}, 400),
        ("/a", b'{"x":"' + b"x" * 512 * 1024 + b'"}', {}, 413),
        ("/a", b"{}", {"Content-Type": "text/plain"}, 415),
    ],
)
async def test_a_wrong_write_has_its_status_and_writes_nothing(path, body, headers, status):
    async with opened() as session:
        for method in ("POST", "PATCH"):
            headers = {"Content-Type": "application/json", **headers}
            found, error = await answer(session, method, path, data=body, headers=headers)
            assert (found, list(error)) == (status, ["error"])
        assert (await answer(session, "GET", ""))[1] == {"configs": []}


async def test_a_document_that_is_no_object_is_served_and_a_patch_of_it_is_409():
    store = MemoryStore()
    async with opened(store=store) as session:
        await answer(session, "POST", "/a", json={})
        await store.commit("config/default/production", {"default/list": b'{"by":"ana","data":[1,2]}'})
        await answer(session, "POST", "/b", json={})  # the mirror reads on
        assert (await answer(session, "GET", "/list"))[1]["data"] == [1, 2]
        assert (await answer(session, "PATCH", "/list", json={}))[0] == 409


async def test_a_hundred_callers_increment_with_if_match_and_the_sum_is_right():
    async def increment(session: aiohttp.ClientSession) -> None:
        while True:
            _, found = await answer(session, "GET", "/counter")
            body = {"count": found["data"]["count"] + 1}
            headers = {"If-Match": str(found["revision"])}
            if (await answer(session, "POST", "/counter", json=body, headers=headers))[0] == 200:
                return

    async with opened() as session:
        await answer(session, "POST", "/counter", json={"count": 0})
        await asyncio.gather(*(increment(session) for _ in range(100)))
        assert (await answer(session, "GET", "/counter"))[1]["data"] == {"count": 100}


# ── watching ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def frame(socket: aiohttp.ClientWebSocketResponse) -> dict:
    message = await socket.receive_json(timeout=30)
    assert message.pop("type") == "config_update"
    return message


async def test_a_watcher_gets_the_present_value_at_once_and_then_each_newest():
    async with opened() as session, session.ws_connect(f"{ROOT}/a/watch") as socket:
        absent = {"name": "a", "data": None, "revision": 0, "epoch": "", "deleted": True}
        assert await frame(socket) == absent
        await answer(session, "POST", "/other", json={})
        for number in range(3):
            await answer(session, "POST", "/a", json={"x": number})
            got = await frame(socket)
            assert (got["name"], got["data"], got["revision"]) == ("a", {"x": number}, number + 2)
            tag = (await session.get(f"{ROOT}/a")).headers["ETag"]
            assert tag == f'"{got["epoch"]}.{got["revision"]}"'
            assert got["updatedAt"].endswith("Z")
        await answer(session, "DELETE", "/a")
        gone = await frame(socket)
        assert (gone["data"], gone["deleted"], gone["revision"]) == (None, True, 5)
        async with session.ws_connect(f"{ROOT}/other/watch") as late:
            assert (await frame(late))["revision"] == 1


async def test_a_watcher_of_the_environment_gets_every_document_and_no_other_s():
    async with opened() as session:
        await answer(session, "POST", "/a", json={})
        await answer(session, "POST", "/b", json={})
        async with session.ws_connect(f"{ROOT}/watch") as socket:
            assert [(await frame(socket))["name"] for _ in "ab"] == ["a", "b"]
            await answer(session, "POST", "/c", json={}, headers={"X-Cfgsync-Environment": "staging"})
            await answer(session, "PATCH", "/b", json={"x": 1})
            got = await frame(socket)
            assert (got["name"], got["data"]) == ("b", {"x": 1})
            await answer(session, "DELETE", "/a")
            got = await frame(socket)
            assert (got["name"], got["deleted"]) == ("a", True)
            await answer(session, "POST", "/d", json={})
            assert (await frame(socket))["name"] == "d"


async def test_a_dropped_bucket_strands_no_watcher():
    store = MemoryStore()
    async with opened(store=store) as session, session.ws_connect(f"{ROOT}/a/watch") as socket:
        await frame(socket)
        for number in range(3):
            await answer(session, "POST", "/a", json={"x": number})
            before = await frame(socket)
        await store.drop("config/default/production")
        await answer(session, "POST", "/a", json={"x": "new"})
        got = await frame(socket)
        assert (got["data"], got["epoch"] > before["epoch"]) == ({"x": "new"}, True)


async def test_a_bucket_that_is_dropped_while_watchers_hold_revision_900_strands_nobody():
    """The next write reaches every watcher, a held read, and readers outside by its newer epoch."""
    bus, store = Bus(), MemoryStore()
    async with Documents(store) as documents:
        name = DocumentName(Scope("default", "production"), "default", "a")
        for number in range(900):
            await documents.set(name, b'{"x":%d}' % number, "ana")
    async with opened(store=Backend(store, store, None, bus)) as session, AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(session.ws_connect(f"{ROOT}/{path}"))
            for path in ("a/watch", "watch") * 10
        ]
        frames = [await frame(socket) for socket in sockets]
        assert {one["revision"] for one in frames} == {900}
        tag = (await session.get(f"{ROOT}/a")).headers["ETag"]
        held = asyncio.create_task(
            session.get(f"{ROOT}/a", headers={"If-None-Match": tag, "Prefer": "wait=30"})
        )
        await store.drop("config/default/production")
        await answer(session, "POST", "/a", json={"x": "new"})
        for socket in sockets:
            got = await frame(socket)
            assert (got["data"], got["epoch"] > frames[0]["epoch"]) == ({"x": "new"}, True)
        assert (await (await held).json())["data"] == {"x": "new"}
        assert await store.changes("config/default/production", Version.parse(tag.strip('"'))) == Gap(
            await store.version("config/default/production")
        )
        async with asyncio.timeout(30):
            while not bus.announced:
                await asyncio.sleep(0.01)
        assert all(body["epoch"] > frames[0]["epoch"] for _, body in bus.announced)


async def test_a_plain_get_of_a_watch_is_426_and_a_stopping_server_ends_it():
    serving = serving_documents(open_documents=True)
    server = await serving.__aenter__()
    async with aiohttp.ClientSession(server.url, headers=PRODUCTION) as session:
        said = {"error": "this route takes a WebSocket"}
        assert await answer(session, "GET", "/a/watch") == (426, said)
        assert (await session.get(f"{ROOT}/watch")).status == 426
        assert (await session.get(f"{ROOT}/a%20b/watch")).status == 400
        async with session.ws_connect(f"{ROOT}/a/watch") as socket:
            await frame(socket)
            ending = asyncio.create_task(serving.__aexit__(None, None, None))
            assert (await socket.receive(timeout=30)).type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.CLOSING,
            )
            await ending


# ── who may call ─────────────────────────────────────────────────────────────────────────────────────────────────────

CALLS = [("GET", ""), ("GET", "/a"), ("GET", "/absent"), ("POST", "/a"), ("PATCH", "/a"), ("DELETE", "/a")]
WATCHES = [("GET", "/a/watch"), ("GET", "/watch")]


class Nobody:
    def materialize_snapshot(self, registrations):
        return MaterializedArtifacts.from_nodes({})


@pytest.mark.parametrize("alone", [True, False])
async def test_over_tcp_every_call_is_401_and_the_admin_socket_answers(alone):
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        serving = (
            serving_documents(admin_socket=path)
            if alone
            else serving_snapshot(Nobody(), admin_socket=path, documents=True)
        )
        async with (
            serving as server,
            aiohttp.ClientSession(server.url) as tcp,
            aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(path)) as unix,
        ):
            assert (await answer(unix, "POST", "/a", json={}))[0] == 200
            for method, target in CALLS:
                body = {"json": {}} if method in ("POST", "PATCH") else {}
                status, error = await answer(tcp, method, target, **body)
                assert (status, list(error)) == (401, ["error"]), (method, target)
                status, _ = await answer(unix, method, target, **body)
                assert status in (200, 204, 404), (method, target)
                from_a_page = {"Origin": "http://127.0.0.1"}
                assert (await answer(unix, method, target, headers=from_a_page, **body))[0] == 401


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Via": "1.1 x"}]
)
async def test_open_documents_refuse_web_pages_and_proxies(headers):
    async with opened() as session:
        for method, target in CALLS:
            body = {"json": {}} if method in ("POST", "PATCH") else {}
            assert (await answer(session, method, target, headers=headers, **body))[0] == 403


async def test_open_documents_are_for_loopback_only():
    with pytest.raises(ValueError, match="loopback"):
        async with serving_documents(open_documents=True, host="0.0.0.0", lacking=("no-tls", "no-auth")):
            pass


async def test_a_watch_without_a_right_is_401():
    async with serving_documents() as server, aiohttp.ClientSession(server.url) as session:
        for method, path in WATCHES:
            assert (await answer(session, method, path))[0] == 401


async def test_without_documents_a_server_has_no_route_of_theirs():
    async with serving_snapshot(Nobody()) as server, aiohttp.ClientSession(server.url) as session:
        assert (await session.get(f"{ROOT}/a")).status == 404
        described = await (await session.get("/openapi.json")).json()
        assert not [path for path in described["paths"] if "config" in path]


async def test_the_name_of_the_writer_is_kept():
    with tempfile.TemporaryDirectory() as directory:
        store, path = MemoryStore(), f"{directory}/admin.sock"
        async with (
            serving_documents(store=store, admin_socket=path) as server,
            aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(path)) as unix,
        ):
            await answer(unix, "POST", "/a", json={})
            entry = await store.get("config/default/default", "default/a")
            assert pwd.getpwuid(os.geteuid()).pw_name.encode() in entry.value


async def test_a_page_of_an_allowed_origin_watches_and_no_other_page_does():
    theirs = {"Origin": "https://example.com"}
    async with opened(allowed_origins=["https://example.com"]) as session:
        async with session.ws_connect(f"{ROOT}/a/watch", headers=theirs) as socket:
            assert (await frame(socket))["deleted"]
        for headers in ({"Origin": "https://example.com.evil.example"}, {**theirs, "Via": "1.1 x"}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{ROOT}/a/watch", headers=headers)
            assert refused.value.status == 403
        assert (await answer(session, "POST", "/a", headers=theirs, json={}))[0] == 403


async def test_the_session_of_a_reader_is_good_for_pages_of_this_server_and_of_allowed_origins():
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        async with (
            serving_documents(admin_socket=path, allowed_origins=["https://example.com"]) as server,
            aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(path)) as unix,
            aiohttp.ClientSession(server.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as page,
        ):
            made = await unix.post("/admin/token/create", json={"role": "reader", "name": "ria"})
            form = {"token": (await made.json())["token"]}
            entered = await page.post(
                "/login", data=form, headers={"Origin": server.url}, allow_redirects=False
            )
            assert entered.status == 303
            for origin, status in (
                (server.url, 404),
                ("https://example.com", 404),
                ("https://x.example", 401),
            ):
                assert (await page.get(f"{ROOT}/a", headers={"Origin": origin})).status == status
