"""Every route of documents × every principal: what a token of a scope permits, and that nothing else permits anything."""

import asyncio
import json
import tempfile

import aiohttp
import pytest

from cfgsync_core import MemoryStore
from cfgsync_documents.http import name_routes, scope_routes
from cfgsync_documents.service import Documents, History
from cfgsync_runtime.access import lasting_calls
from cfgsync_runtime.compose.document_server import serving_documents
from cfgsync_runtime.compose.fleet_server import serving_snapshot

SCOPE, OTHER = "shop/live", "shop/test"
NAMES = {"app": "shop", "env": "live", "ns": "default", "key": "b", "name": "b", "kind": "ui"}
BODIES = {
    "/defaults": {"defaults": []},
    "/documents": {"namespace": "n", "configKey": "k", "contentJson": "1"},
    "/documents/{key}": {"contentJson": "{}"},
    "/commit": {"writes": []},
    "/rollback": {"toVersion": 1},
}
RIGHT = {"reader": "r", "writer": "w", "reader or writer": "d"}
MAY = {
    "anyone": "",
    "a node": "",
    "a join token": "",
    "a reader": "rd",
    "a reader of the scope": "rd",
    "a reader of another scope": "",
    "a writer of the scope": "wd",
    "a writer of another scope": "",
    "an operator": "rwd",
    "a revoked writer": "",
    "a session of the page": "r",
    "an ended session": "",
    "the admin socket": "rwd",
}


async def every_call():
    """Method, target, body and the right that it needs, of every route of documents."""
    store = MemoryStore()
    async with Documents(store) as documents, History(store, documents) as history:
        for route in (*name_routes(documents), *scope_routes(documents, history)):
            target = route.path.format(**NAMES)
            if "{app}" not in route.path:
                target += "?app=shop&environment=live&env=live"
            ends = [end for end in BODIES if route.path.endswith(end)]
            body = {} if not ends else BODIES[max(ends, key=len)]
            yield route.method, target, body if route.body is not None else None, RIGHT[route.access]


class Nobody:
    def materialize_snapshot(self, registrations):
        raise AssertionError("there is no node")


async def token(unix, **wanted):
    async with unix.post("/admin/token/create", json=wanted) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["token"]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("requires_tokens", [True, False])
async def test_a_document_is_read_and_written_with_a_token_of_its_scope_or_over_the_admin_socket(
    alone, requires_tokens
):
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        serving = (
            serving_documents(admin_socket=path, requires_tokens=requires_tokens)
            if alone
            else serving_snapshot(
                Nobody(), admin_socket=path, documents=True, requires_tokens=requires_tokens
            )
        )
        async with (
            serving as server,
            aiohttp.ClientSession(server.url, cookie_jar=aiohttp.DummyCookieJar()) as tcp,
            aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(path)) as unix,
        ):
            tokens = {
                "a node": "secret-of-a-node-1234567890",
                "a join token": await token(unix, **{"for": "*"}),
                "a reader": await token(unix, role="reader", name="all"),
                "a reader of the scope": await token(unix, role="reader", name="r1", scopes=[SCOPE]),
                "a reader of another scope": await token(unix, role="reader", name="r2", scopes=[OTHER]),
                "a writer of the scope": await token(unix, role="writer", name="w1", scopes=[SCOPE]),
                "a writer of another scope": await token(unix, role="writer", name="w2", scopes=[OTHER]),
                "an operator": await token(unix, role="operator", name="bea"),
                "a revoked writer": await token(unix, role="writer", name="gone", scopes=[SCOPE]),
            }
            assert (await unix.post("/admin/token/revoke", json={"which": "gone"})).status == 200
            cookies = {}
            for name in ("a session of the page", "an ended session"):
                text = await token(unix, role="reader", name=name.replace(" ", "-"))
                logged_in = await tcp.post("/login", data={"token": text}, allow_redirects=False)
                cookies[name] = logged_in.headers["Set-Cookie"].partition(";")[0]
            assert (await unix.post("/admin/token/revoke", json={"which": "an-ended-session"})).status == 200
            surprises, pairs = [], 0
            for principal, may in MAY.items():
                over = unix if principal == "the admin socket" else tcp
                headers = {"Authorization": f"Bearer {tokens[principal]}"} if principal in tokens else {}
                if principal in cookies:
                    headers = {"Cookie": cookies[principal]}
                async for method, target, body, right in every_call():
                    pairs += 1
                    async with over.request(method, target, json=body, headers=headers) as answer:
                        permitted = answer.status not in (401, 403)
                        if permitted != (right in may) or answer.status >= 500:
                            surprises.append((principal, method, target, answer.status))
            print(f"{pairs} pairs, {len(surprises)} surprises")
            assert pairs == 23 * len(MAY)
            assert surprises == []


async def test_a_refusal_names_the_token_and_the_role_and_scope_that_are_needed():
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        async with (
            serving_documents(admin_socket=path) as server,
            aiohttp.ClientSession(server.url) as tcp,
            aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(path)) as unix,
        ):
            text = await token(unix, role="reader", name="r1", scopes=[SCOPE])
            target = "/api/v1/config/b?app=shop&environment=test"
            async with tcp.post(target, json={}, headers={"Authorization": f"Bearer {text}"}) as answer:
                assert (await answer.json())["error"] == (
                    "the token r1 (role reader for shop/live) does not permit this:"
                    " this needs a token of role writer of shop/test"
                )


@pytest.mark.parametrize("writes", [True, False])
async def test_a_revoked_token_reads_no_more_over_what_is_open_also_when_nothing_changes(writes, monkeypatch):
    """A WebSocket is closed with 1008, a stream ends, and a held GET is 401."""
    monkeypatch.setattr(lasting_calls, "CHECK_SECONDS", 60.0 if writes else 0.1)
    place = f"/v1/config/apps/{SCOPE.replace('/', '/envs/')}"
    one = "/api/v1/config/b?app=shop&environment=live"
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        async with (
            serving_documents(admin_socket=path) as server,
            aiohttp.ClientSession(server.url) as tcp,
            aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(path)) as unix,
        ):
            text = await token(unix, role="reader", name="gone", scopes=[SCOPE])
            bearer = {"Authorization": f"Bearer {text}"}
            await unix.post(one, json={"x": 1})
            async with (
                tcp.ws_connect(one.replace("?", "/watch?"), headers=bearer) as socket,
                tcp.get("/v1/config/watch?app=shop&env=live", headers=bearer) as stream,
            ):
                assert json.loads((await socket.receive(timeout=30)).data)["data"] == {"x": 1}
                async with asyncio.timeout(30):
                    while await stream.content.readline() != b"event: hint\n":
                        pass
                held = []
                for target in (one, f"{place}/snapshot"):
                    tag = (await tcp.get(target, headers=bearer)).headers["ETag"]
                    known = {"If-None-Match": tag, "Prefer": f"wait={20 if writes else 1}"}
                    held.append(asyncio.create_task(tcp.get(target, headers=bearer | known)))
                await asyncio.sleep(0.2)  # they are held by now, or are refused at once
                assert (await unix.post("/admin/token/revoke", json={"which": "gone"})).status == 200
                if writes:
                    await unix.post(one, json={"x": "secret"})
                    async with asyncio.timeout(30):
                        assert b"updated" not in await stream.content.read()
                end = await socket.receive(timeout=30)
                assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, 1008)
                assert end.extra == "the token or session has ended"
                for reply in await asyncio.gather(*held):
                    assert reply.status == 401
                    assert "secret" not in await reply.text()
