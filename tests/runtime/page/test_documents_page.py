"""`GET /documents`: which documents there are is for all who see the page, values are for readers; nothing in them runs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from cfgsync_adapter import MaterializedArtifacts
from cfgsync_runtime import serving_snapshot
from cfgsync_runtime.compose.document_server import serving_documents

HOSTILE = '</pre><script>alert(1)</script>"'
SECRETLY = "a value that only readers see"
ONE = "/documents?app=shop&env=live&namespace=default&name=theme"


class Empty:
    def materialize_snapshot(self, registrations):
        return MaterializedArtifacts.from_nodes({})


@asynccontextmanager
async def opened(serving=serving_documents, **more) -> AsyncIterator[tuple[aiohttp.ClientSession, ...]]:
    """A caller over TCP that keeps no cookies, one that keeps them, and the admin socket; `theme` has three revisions."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/a.sock"
        async with (
            serving(admin_socket=path, **more) as server,
            aiohttp.ClientSession(server.url, cookie_jar=aiohttp.DummyCookieJar()) as tcp,
            aiohttp.ClientSession(server.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser,
            aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(path)) as unix,
        ):
            at = {"app": "shop", "environment": "live"}
            for value in ({"a": 1.0, "is": SECRETLY}, {"a": 2, "is": HOSTILE}):
                assert (await unix.post("/api/v1/config/theme", json=value, params=at)).status == 200
            assert (await unix.post("/api/v1/config/other.v1", json={}, params=at)).status == 200
            yield tcp, browser, unix


async def text(session, path, status=200):
    async with session.get(path, headers={"Accept": "text/html"}) as reply:
        assert reply.status == status
        return await reply.text()


async def log_in(browser, unix, **wanted):
    made = await unix.post("/admin/token/create", json=wanted)
    token = (await made.json())["token"]
    return await browser.post("/login", data={"token": token}, allow_redirects=False)


async def test_the_page_lists_scopes_and_documents_and_values_are_for_a_reader_who_logged_in():
    async with opened() as (tcp, browser, unix):
        assert "shop" in await text(tcp, "/documents")
        assert 'href="?app=shop&amp;env=live"' in await text(tcp, "/documents")
        scope = await text(tcp, "/documents?app=shop&env=live")
        for word in ("theme", "other.v1", "revision 3"):
            assert word in scope
        one = await text(tcp, ONE)
        assert "Values are not shown here" in one
        assert "Revision 2, written by" in one
        assert SECRETLY not in one
        assert (await log_in(browser, unix, role="reader", name="rea")).status == 303
        for session in (browser, unix):
            one = await text(session, ONE)
            assert "&lt;script&gt;alert(1)" in one
            assert "<script>alert" not in one
            assert SECRETLY in one  # in the history
            assert "cfgsync config rollback theme 1 --env live --app shop" in one
            assert "<ins>+  &quot;a&quot;: 2,</ins>" in one
            assert "<del>-  &quot;a&quot;: 1.0,</del>" in one
        assert 'data-stream="v1/config/watch?app=shop&amp;env=live"' in one
        stream = await browser.get("/v1/config/watch?app=shop&env=live")
        assert stream.status == 200
        stream.close()


async def test_a_session_reads_documents_of_its_own_origin_only_and_writes_none():
    async with opened() as (_, browser, unix):
        await log_in(browser, unix, role="reader", name="rea")
        snapshot = "/v1/config/apps/shop/envs/live/snapshot"
        assert (await browser.get(snapshot)).status == 200
        assert (await browser.get(snapshot, headers={"Origin": "http://evil.example"})).status == 401
        assert (await browser.post("/api/v1/config/theme?app=shop&environment=live", json={})).status == 401
        await unix.post("/admin/token/revoke", json={"which": "rea"})
        assert (await browser.get(snapshot)).status == 401
        assert SECRETLY not in await text(browser, ONE)


async def test_where_tokens_are_required_the_page_leads_to_the_login():
    async with opened(requires_tokens=True) as (tcp, browser, unix):
        async with tcp.get(ONE, headers={"Accept": "text/html"}, allow_redirects=False) as reply:
            assert reply.status == 303
            assert reply.headers["Location"].startswith("login?next=%2Fdocuments%3F")
        assert (await tcp.get(ONE)).status == 401
        await log_in(browser, unix, role="operator", name="bea")
        assert SECRETLY in await text(browser, ONE)


async def test_on_an_open_server_every_program_of_the_machine_reads_values_and_a_proxy_does_not():
    async with opened(open_documents=True) as (tcp, *_):
        assert SECRETLY in await text(tcp, ONE)
        async with tcp.get(ONE, headers={"X-Forwarded-For": "10.0.0.1"}) as reply:
            assert SECRETLY not in await reply.text()


async def test_beside_a_fleet_the_pages_lead_to_each_other_and_without_one_the_first_page_is_this():
    async with opened(lambda **more: serving_snapshot(Empty(), documents=True, **more)) as (tcp, *_):
        assert 'href="documents"' in await text(tcp, "/")
        assert 'href="status"' in await text(tcp, "/documents")
    async with opened() as (tcp, *_):
        assert 'href="status"' not in await text(tcp, "/")  # redirected
    async with opened(page=False) as (tcp, *_):
        assert (await tcp.get("/documents")).status == 404


async def test_a_deleted_and_an_absent_document_and_a_wrong_name():
    async with opened() as (tcp, _, unix):
        await unix.delete("/api/v1/config/theme?app=shop&environment=live")
        one = await text(unix, ONE)
        assert "There is no such document." in one
        assert 'class="mark removed">deleted' in one
        assert "absent" in one
        await text(tcp, ONE.replace("theme", "none"), 404)
        assert (await tcp.get(ONE.replace("theme", "a%20b"))).status == 400


async def test_a_scope_with_many_documents_is_shown_a_page_at_a_time_and_every_document_once():
    async with opened() as (_, _, unix):
        writes = [{"namespace": "n", "configKey": f"d{n}", "contentJson": "1"} for n in range(240)]
        await unix.post("/v1/config/admin/apps/shop/envs/live/commit", json={"writes": writes})
        seen, path = [], "/documents?app=shop&env=live"
        while path:
            page = await text(unix, path)
            seen += re.findall(r"namespace=n&amp;name=(\w+)", page)
            found = re.search(r'href="([^"]*after=[^"]*)">next', page)
            path = found and "/documents" + found[1].replace("&amp;", "&")
        assert sorted(seen) == sorted(f"d{n}" for n in range(240))


@pytest.mark.parametrize("path", ["/documents", "/documents?app=shop&env=live", ONE])
async def test_only_our_own_script_runs(path):
    async with opened() as (tcp, *_), tcp.get(path) as reply:
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert (await reply.text()).count("<script>") == 1
