"""The asyncio client over real sockets: what it sends, what it makes of the answers, and when it gives up."""

from __future__ import annotations

import asyncio
import gzip
import time

import aiohttp
import pytest

from cfgsync_artifacts import ArtifactFile
from cfgsync_core import (
    NEVER,
    CfgsyncClient,
    FetchFailed,
    IntegrityError,
    InvalidServerUrl,
    MaterializationFailed,
    Missing,
    NodeRegistration,
    NotReady,
    Ready,
    Unavailable,
    Version,
)
from cfgsync_core.node.outcomes import NotReadyInTime, Refused, Unreachable, Untrusted
from tests.scripted_server import (
    Cut,
    Drip,
    Heard,
    OriginalServer,
    Says,
    Script,
    ScriptedServer,
    error,
    files,
)

NODE = NodeRegistration("node-1", "127.0.0.1")
CONFIG = ArtifactFile("/config.yaml", "id: node-1\n")
EPOCH = "0000000f-4240-7000-8000-000000000000"
REGISTERED = Says(202, headers={"Cfgsync-Version": f"{EPOCH}.1"})
BIG = b'{"schema_version":1,"files":[{"path":"/a","content":"' + b"x" * (17 * 2**20) + b'"}]}'


@pytest.fixture
def closed_port() -> int:
    """A port at which nobody listens any more."""
    with ScriptedServer([Says(200)]) as server:
        return server.port


async def test_files_are_two_requests_over_one_connection() -> None:
    with ScriptedServer([REGISTERED, files([CONFIG], f"{EPOCH}.1")]) as server:
        async with CfgsyncClient(server.url, secret="s" * 20) as client:
            payload = await client.register_and_fetch(NODE)
    assert payload.files == (CONFIG,)
    assert server.paths == ["/register", "/node"]
    register, node = server.heard
    assert register.connection == node.connection == 1
    assert register.body == node.body == b'{"identifier":"node-1","ip":"127.0.0.1"}'
    assert node.headers["authorization"] == f"Bearer {'s' * 20}"
    assert node.headers["prefer"] == "wait=1"
    assert node.headers["cfgsync-version"] == f"{EPOCH}.1"
    assert node.headers["cfgsync-accept"] == "base64, mode"
    assert "accept-encoding" not in node.headers


async def test_outcomes_of_a_question_are_values() -> None:
    waiting = error(425, "not_ready", registered=True, reason="have 1", conditions=[], retry_after=1)
    missing = error(404, "missing_config", "missing config for host node-1")
    with ScriptedServer([REGISTERED, waiting, missing, files([CONFIG], f"{EPOCH}.4")]) as server:
        async with CfgsyncClient(server.url) as client:
            assert await client.register(NODE) == Version(EPOCH, 1)
            assert await client.resolve("node-1", wait=3) == NotReady("have 1", (), 1, True)
            assert await client.resolve(NODE) == Missing("missing config for host node-1")
            match await client.resolve("node-1"):
                case Ready(payload, generation):
                    assert payload.files == (CONFIG,)
                    assert generation == f"{EPOCH}.4"
                case other:
                    pytest.fail(str(other))
    assert [h.headers.get("prefer") for h in server.heard] == [None, "wait=3", None, None]
    assert {h.headers.get("cfgsync-version") for h in server.heard[1:]} == {f"{EPOCH}.1"}


async def test_failures_of_a_question_are_exceptions_named_for_what_to_do() -> None:
    table = [
        (error(500, "internal", "failed to materialize config snapshot: boom"), MaterializationFailed),
        (error(503, "unavailable"), Unavailable),
        (Says(404), Unavailable),
        (Cut(), Unavailable),
        (error(401, "unauthorized"), FetchFailed),
        (error(422, "invalid_request"), FetchFailed),
        (Says(302, headers={"Location": "/elsewhere"}), Unavailable),
        (Says(200, b"<html>"), Unavailable),
        (Says(200, b"<html>", {"ETag": files([CONFIG]).headers["ETag"]}), IntegrityError),
    ]
    for act, kind in table:
        with ScriptedServer([act]) as server:
            async with CfgsyncClient(server.url) as client:
                with pytest.raises(kind):
                    await client.resolve("node-1")
            assert len(server.heard) == 1, "asked once, and no redirect followed"


async def test_an_original_server_is_waited_for_by_polling() -> None:
    with OriginalServer(quorum=2) as server:
        async with CfgsyncClient(server.url) as first, CfgsyncClient(server.url) as second:
            assert await second.resolve("node-2") == NotReady("", (), None, False)
            waiting = asyncio.ensure_future(first.register_and_fetch(NODE, wait=20))
            await asyncio.sleep(0.3)
            assert await second.register(NodeRegistration("node-2", "127.0.0.1")) == NEVER
            payload = await waiting
    assert payload.files == (CONFIG,)


async def test_an_original_server_that_restarts_forgets_everyone_and_is_told_again() -> None:
    with OriginalServer(quorum=2) as server:
        port = server.port
        async with CfgsyncClient(server.url) as client:
            fetching = asyncio.ensure_future(client.register_and_fetch(NODE, wait=20))
            await asyncio.sleep(0.3)
            assert server.registered == {"node-1"}
            server.__exit__(None, None, None)
            await asyncio.sleep(0.2)
            with OriginalServer(quorum=1, port=port):
                assert (await fetching).files == (CONFIG,)


GZIP = {"Content-Encoding": "gzip", "ETag": files([CONFIG]).headers["ETag"]}
FATAL: list[tuple[str, Script, str]] = [
    ("wrong digest", [REGISTERED, files([CONFIG], etag="sha256-" + "0" * 64)], "digest"),
    ("17 MiB", [REGISTERED, Says(200, BIG)], "larger"),
    ("17 MiB without a length", [REGISTERED, Says(200, BIG, chunked=True)], "larger"),
    ("compressed", [REGISTERED, Says(200, gzip.compress(b"{}"), GZIP)], "compressed"),
]


@pytest.mark.parametrize(("script", "words"), [row[1:] for row in FATAL], ids=[row[0] for row in FATAL])
async def test_an_answer_that_may_not_be_written_ends_it_at_once(script: Script, words: str) -> None:
    with ScriptedServer(script) as server:
        async with CfgsyncClient(server.url) as client:
            with pytest.raises(FetchFailed, match=words) as failed:
                await client.register_and_fetch(NODE, wait=20)
    assert isinstance(failed.value.outcome, Untrusted)
    assert failed.value.hint


@pytest.mark.parametrize(
    "act",
    [
        Cut(),
        Cut(b"HTTP/1.1 200 OK\r\nContent-Le"),
        Cut(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"schema_version":1,'),
        Cut(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"sch'),
        Cut(b"SSH-2.0-OpenSSH_9.2\r\n"),
    ],
)
async def test_half_an_answer_is_asked_again_after_registering_again(act: Cut) -> None:
    with ScriptedServer([REGISTERED, act, REGISTERED, files([CONFIG])]) as server:
        async with CfgsyncClient(server.url) as client:
            assert (await client.register_and_fetch(NODE, wait=20)).files == (CONFIG,)
    assert server.paths == ["/register", "/node", "/register", "/node"]


async def test_nobody_there_is_said_when_the_time_is_over(closed_port: int) -> None:
    async with CfgsyncClient(f"http://127.0.0.1:{closed_port}") as client:
        with pytest.raises(FetchFailed, match=r"after 0\.5 s: connection refused") as failed:
            await client.register_and_fetch(NODE, wait=0.5)
    assert isinstance(failed.value.outcome, Unreachable)


@pytest.mark.timed
async def test_neither_a_slow_drip_nor_silence_outlives_the_wait() -> None:
    slow = Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000, every=0.05)
    for act in (slow, Says(200, after=60)):
        with ScriptedServer([act]) as server:
            began = time.monotonic()
            async with CfgsyncClient(server.url) as client:
                with pytest.raises(FetchFailed):
                    await client.register_and_fetch(NODE, wait=0.8)
            assert time.monotonic() - began < 1.5


async def test_not_ready_in_time_carries_the_last_reason() -> None:
    waiting = error(425, "not_ready", registered=True, reason="waiting for 2 nodes, have 1", retry_after=1)
    with ScriptedServer([REGISTERED, waiting]) as server:
        async with CfgsyncClient(server.url) as client:
            with pytest.raises(FetchFailed) as failed:
                await client.register_and_fetch(NODE, wait=0.5)
    assert isinstance(failed.value.outcome, NotReadyInTime)
    assert failed.value.outcome.reason == "waiting for 2 nodes, have 1"


async def test_a_refusal_is_final() -> None:
    with ScriptedServer([error(409, "identity_conflict", "node-1 belongs to another")]) as server:
        async with CfgsyncClient(server.url) as client:
            with pytest.raises(FetchFailed, match="belongs to another") as failed:
                await client.register_and_fetch(NODE)
    assert isinstance(failed.value.outcome, Refused)


async def test_no_cookie_is_kept_and_no_proxy_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    answered = Says(202, headers={"Set-Cookie": "a=b"})
    with ScriptedServer([answered, files([CONFIG])]) as server:
        async with CfgsyncClient(server.url) as client:
            await client.register_and_fetch(NODE, wait=5)
    assert "cookie" not in server.heard[1].headers


async def test_a_session_that_is_given_is_used_and_left_open() -> None:
    def ready(heard: Heard) -> Says:
        return REGISTERED if heard.path == "/register" else files([CONFIG])

    with ScriptedServer(ready) as server:
        async with aiohttp.ClientSession() as session:
            async with CfgsyncClient(server.url, session=session) as client:
                await client.register_and_fetch(NODE, wait=5)
            assert not session.closed


def test_a_url_that_is_none_is_refused_before_anything_is_sent() -> None:
    for text in (
        "localhost",
        "ftp://h",
        "http://",
        "http://a:b@h",
        "http://h?x",
        "http://a,,http://b",
        "http://h:99999",
    ):
        with pytest.raises(InvalidServerUrl):
            CfgsyncClient(text)


async def test_of_several_servers_the_next_one_is_asked_when_one_is_lost_or_cannot_serve(
    closed_port: int,
) -> None:
    away, lost = Says(503, b'{"code":"unavailable"}'), f"http://127.0.0.1:{closed_port}"
    with (
        ScriptedServer([away]) as first,
        ScriptedServer([REGISTERED, files([CONFIG], f"{EPOCH}.1"), REGISTERED]) as last,
    ):
        async with CfgsyncClient(f"{first.url}, {lost},{last.url}") as client:
            assert await client.register(NODE) == Version(EPOCH, 1)
            assert isinstance(await client.resolve(NODE), Ready)
            assert first.paths == ["/register"]
            assert last.paths == ["/register", "/node"], "it stays with the one that answers"
        async with CfgsyncClient(f"{lost},{last.url}") as client:
            assert await client.register(NODE) == Version(EPOCH, 1)
    with ScriptedServer([REGISTERED, files([CONFIG], f"{EPOCH}.1")]) as last:
        async with CfgsyncClient(f"{lost},{last.url}") as client:
            payload = await client.register_and_fetch(NODE, wait=30.0)
    assert payload.files == (CONFIG,)
    async with CfgsyncClient(f"{lost},http://127.0.0.1:{closed_port + 0}/x") as client:
        with pytest.raises(Unavailable, match=r"/x: connection refused"):
            await client.register(NODE)


async def test_a_join_token_is_shown_with_the_registration_and_with_nothing_else() -> None:
    node = NodeRegistration("a", "10.0.0.1")
    with ScriptedServer([REGISTERED, files([CONFIG], f"{EPOCH}.1"), REGISTERED]) as server:
        async with CfgsyncClient(server.url, join_token="a-join-token-of-the-fleet") as client:
            await client.register_and_fetch(node)
            await client.register(node)
    shown = [heard.headers.get("cfgsync-join-token") for heard in server.heard]
    assert [heard.path for heard in server.heard] == ["/register", "/node", "/register"]
    assert shown == ["a-join-token-of-the-fleet", None, "a-join-token-of-the-fleet"]
