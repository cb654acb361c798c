"""`/login`: a token once, a session for an hour, contents for its reader; no script, and no request of another site."""

from __future__ import annotations

import asyncio
import re
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import uvloop

from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, RegistrationSnapshot
from cfgsync_runtime import ServerCertificate, serving_snapshot
from tests.certificates import Authority

HTML = {"Accept": "text/html"}


class Each:
    def materialize_snapshot(self, nodes: RegistrationSnapshot) -> MaterializedArtifacts:
        return MaterializedArtifacts.from_nodes(
            {
                n.identifier: [ArtifactFile("/id", "the words in it"), ArtifactFile("/key", "SECRET", "0600")]
                for n in nodes
            }
        )


class Browser:
    """Sends what a browser sends, with the cookie that it was given last; follows no redirect by itself."""

    def __init__(self, url: str, tcp: aiohttp.ClientSession, unix: aiohttp.ClientSession) -> None:
        self.url = url
        self.tcp = tcp
        self.unix = unix
        self.cookie = ""

    async def token(self, **wanted: Any) -> str:
        answer = await self.unix.post("/admin/token/create", json=wanted)
        return str((await answer.json())["token"])

    async def get(self, path: str) -> tuple[int, str, str]:
        cookie = {"Cookie": f"other=1; {self.cookie}"} if self.cookie else {}
        answer = await self.tcp.get(path, headers={**HTML, **cookie}, allow_redirects=False)
        return answer.status, answer.headers.get("Location", ""), await answer.text()

    async def post(self, path: str, data: Any = None, **headers: str) -> aiohttp.ClientResponse:
        sent = {"Origin": self.url, "Cookie": self.cookie, **headers}
        answer = await self.tcp.post(path, data=data or {"x": "y"}, headers=sent, allow_redirects=False)
        if "Set-Cookie" in answer.headers:
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return answer


@asynccontextmanager
async def browsing(**more: Any) -> AsyncIterator[Browser]:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        async with (
            serving_snapshot(Each(), admin_socket=path, **more) as server,
            aiohttp.ClientSession(
                server.url,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(ssl="tls" not in more),
            ) as tcp,
            aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(path)) as unix,
        ):
            browser = Browser(server.url, tcp, unix)
            join = {
                "Cfgsync-Join-Token": await browser.token(**{"for": "a"}),
                "Authorization": "Bearer " + "s" * 40,
                "Cfgsync-Accept": "base64, mode",
            }
            words = {"identifier": "a", "ip": "10.0.0.1"}
            assert (await tcp.post("/register", json=words, headers=join)).status == 202
            assert (await tcp.post("/node", json=words, headers=join)).status == 200
            yield browser


async def test_a_browser_is_sent_to_the_form_logs_in_sees_contents_and_logs_out() -> None:
    async with browsing(requires_tokens=True, anonymous=False) as browser:
        assert (await browser.get("/"))[:2] == (303, "login")
        status, _, form = await browser.get("/login")
        assert status == 200
        assert 'action="login"' in form
        assert "<script" not in form
        assert "the words in it" not in form
        made = await browser.post(
            "/login", {"token": await browser.token(role="reader", name="ana") + "\r\n"}
        )
        assert (made.status, made.headers["Location"]) == (303, "./")
        said = made.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Max-Age=3600"} <= set(said.split("; "))
        assert "Secure" not in said, "this server has no TLS"
        status, _, page = await browser.get("/?node=a")
        assert status == 200
        assert "the words in it" in page
        assert "SECRET" not in page
        assert (await browser.get("/status"))[0] == 200
        assert (await browser.get("/admin/nodes"))[0] == 403, "a session only reads the page and the status"
        assert "ana" in (await browser.get("/login"))[2]
        before = browser.cookie
        out = await browser.post("/logout")
        assert (out.status, out.headers["Location"]) == (303, "login")
        assert "Max-Age=0" in out.headers["Set-Cookie"]
        browser.cookie = before
        assert (await browser.get("/"))[:2] == (303, "login"), "the session has ended on the server, too"


async def _secure_over_tls(directory: Path) -> None:
    cert, key = Authority(directory).pair()
    tls = ServerCertificate(str(cert), str(key))
    async with browsing(requires_tokens=True, anonymous=False, tls=tls) as browser:
        made = await browser.post("/login", {"token": await browser.token(role="reader", name="ana")})
        assert "Secure" in made.headers["Set-Cookie"].split("; ")
        assert "Secure" in (await browser.post("/logout")).headers["Set-Cookie"].split("; ")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_over_tls_the_cookie_of_a_session_is_for_tls_only(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_secure_over_tls(tmp_path))


async def test_the_cookie_is_for_tls_only_where_a_proxy_has_the_certificate() -> None:
    """The browser says by which URL it came."""
    async with browsing(requires_tokens=True, anonymous=False) as browser:
        by = {"Origin": "https://fleet.example", "Host": "fleet.example"}
        made = await browser.post("/login", {"token": await browser.token(role="reader", name="ana")}, **by)
        assert made.status == 303
        assert "Secure" in made.headers["Set-Cookie"].split("; ")


async def test_on_loopback_the_page_is_open_and_a_session_shows_contents() -> None:
    async with browsing() as browser:
        status, _, page = await browser.get("/?node=a")
        assert (status, "the words in it" in page) == (200, False)
        assert 'href="login"' in page
        await browser.post("/login", {"token": await browser.token(role="operator", name="bea")})
        assert "the words in it" in (await browser.get("/?node=a"))[2]


@pytest.mark.parametrize("origin", ["http://attacker.example", "null", "http://127.0.0.1:1", "", "http://["])
async def test_a_form_of_another_origin_neither_logs_in_nor_out(origin: str) -> None:
    async with browsing(requires_tokens=True, anonymous=False) as browser:
        token = await browser.token(role="reader", name="ana")
        assert (await browser.post("/login", {"token": token}, Origin=origin)).status == 403
        assert browser.cookie == ""
        await browser.post("/login", {"token": token})
        assert (await browser.post("/logout", Origin=origin)).status == 403
        assert (await browser.get("/"))[0] == 200


@pytest.mark.parametrize(
    ("proto", "origin", "status", "is_secure"),
    [
        ("https", "https", 303, True),
        ("https", "http", 403, False),
        ("http", "http", 303, False),
        ("http", "https", 403, False),
        ("", "https", 303, True),  # a proxy that does not say it: the browser does
        ("", "http", 303, False),
        ("http, https", "https", 303, True),  # two that say two things say nothing
    ],
)
async def test_behind_a_trusted_proxy_its_word_is_the_scheme_of_the_cookie_and_of_the_origin(
    proto: str, origin: str, status: int, is_secure: bool
) -> None:
    async with browsing(requires_tokens=True, anonymous=False, trusted_proxies=["127.0.0.1"]) as browser:
        token = {"token": await browser.token(role="reader", name="ana")}
        said = {"X-Forwarded-Proto": proto} if proto else {}
        made = await browser.post("/login", token, Origin=browser.url.replace("http", origin), **said)
        assert (made.status, "Secure" in made.headers.get("Set-Cookie", "")) == (status, is_secure)


async def test_nobody_else_s_word_is_the_scheme() -> None:
    async with browsing(requires_tokens=True, anonymous=False) as browser:
        token = {"token": await browser.token(role="reader", name="ana")}
        made = await browser.post("/login", token, **{"X-Forwarded-Proto": "https"})
        assert (made.status, "Secure" in made.headers["Set-Cookie"]) == (303, False)


async def test_over_tls_the_cookie_is_secure_and_a_page_without_tls_is_another_origin(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = ServerCertificate(*map(str, authority.pair()))
    trusting = ssl.create_default_context(cafile=authority.file)
    trusting.verify_flags &= ~ssl.VERIFY_X509_STRICT
    async with (
        serving_snapshot(Each(), admin_socket=(socket := str(tmp_path / "s")), tls=tls) as server,
        aiohttp.ClientSession(server.url, cookie_jar=aiohttp.DummyCookieJar()) as tcp,
        aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(socket)) as unix,
    ):
        made = await unix.post("/admin/token/create", json={"role": "reader", "name": "ana"})
        token = {"token": (await made.json())["token"]}
        for origin, status in ((server.url, 303), (server.url.replace("https", "http"), 403)):
            headers = {"Origin": origin}
            answer = await tcp.post(
                "/login", data=token, headers=headers, ssl=trusting, allow_redirects=False
            )
            assert answer.status == status
            assert ("Secure" in answer.headers.get("Set-Cookie", "")) is (status == 303)


async def test_a_wrong_token_gets_the_form_again_and_is_not_in_it_nor_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with browsing(requires_tokens=True, anonymous=False) as browser:
        caplog.set_level("DEBUG")
        for wrong in ("canary-of-a-token", await browser.token(**{"for": "*"})):
            answer = await browser.post("/login", {"token": wrong})
            text = await answer.text()
            assert (answer.status, browser.cookie) == (401, "")
            assert "unknown, revoked or expired" in text
            assert wrong not in text + caplog.text
        assert caplog.text.count("login of the page from 127.0.0.1: refused") == 2
        for body in (b"token=\xff", b"not a form", b"token=x" * 2000):
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = await browser.tcp.post("/login", data=body, headers=kind)
            assert answer.status in (400, 401, 413)
        assert (await browser.tcp.post("/login", json={"token": "x"})).status == 415


async def test_a_page_of_the_script_gets_the_refusal_as_json() -> None:
    async with browsing(requires_tokens=True, anonymous=False) as browser:
        answer = await browser.tcp.get("/", headers={"Accept": "application/json"}, allow_redirects=False)
        assert (answer.status, (await answer.json())["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_link_to_a_view_survives_the_login() -> None:
    async with browsing(requires_tokens=True, anonymous=False) as browser:
        status, there, _ = await browser.get("/?node=a&find=%C3%BC%26%22%3E")
        assert (status, there) == (303, "login?next=%2F%3Ffind%3D%25C3%25BC%2526%2522%253E%26node%3Da")
        _, _, form = await browser.get(f"/{there}")
        (wanted,) = re.findall(r'name="next" value="([^"]*)"', form)
        sent = {"token": "wrong", "next": unescape(wanted)}
        again = await (await browser.post("/login", sent)).text()
        assert f'name="next" value="{wanted}"' in again, "also after a wrong token"
        made = await browser.post("/login", {**sent, "token": await browser.token(role="reader", name="ana")})
        there = made.headers["Location"]
        assert (made.status, there) == (303, "./?find=%C3%BC%26%22%3E&node=a")
        status, _, page = await browser.get(there.removeprefix("."))
        assert (status, "the words in it" in page) == (200, True)


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example/x",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "evil.example",
        "@evil.example",
        "/..//evil.example",
        "/../other-program",
        "/%2e%2e/other-program",
        "/a//evil.example",
        "/a/../..",
        "/\t/evil.example",
        "/\r\nSet-Cookie: x=y",
        " /x",
        "/x\x00",
        '/"><script>',
        "/?" + "x" * 1_000,
        "",
    ],
)
async def test_a_login_leads_to_no_other_place_than_this_page(wanted: str) -> None:
    async with browsing(requires_tokens=True, anonymous=False) as browser:
        _, _, form = await browser.get("/login?" + urlencode({"next": wanted}))
        assert 'name="next"' not in form
        token = await browser.token(role="reader", name="ana")
        made = await browser.post("/login", {"token": token, "next": wanted})
        assert (made.status, made.headers["Location"]) == (303, "./")


async def test_sessions_of_two_servers_on_one_host_live_side_by_side() -> None:
    more = {"requires_tokens": True, "anonymous": False}
    jar = aiohttp.CookieJar(unsafe=True)  # as a browser's: it knows hosts and no ports
    async with (
        browsing(**more) as one,
        browsing(**more) as two,
        aiohttp.ClientSession(cookie_jar=jar) as browser,
    ):
        for server in (one, two):
            sent = {"token": await server.token(role="reader", name="ana")}
            async with browser.post(f"{server.url}/login", data=sent, headers={"Origin": server.url}) as made:
                assert made.status == 200
        for server in (one, two):
            async with browser.get(f"{server.url}/?node=a", headers=HTML) as page:
                assert "the words in it" in await page.text()
        await browser.post(f"{one.url}/logout", data={"x": "y"}, headers={"Origin": one.url})
        async with browser.get(f"{two.url}/?node=a", headers=HTML) as page:
            assert "the words in it" in await page.text()
        assert len(jar) == 1
