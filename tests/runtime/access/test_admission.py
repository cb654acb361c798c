"""Which routes a composed server answers to whom, over TCP and over its admin socket."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, RegistrationSnapshot
from cfgsync_core.server import Call, Reply, Route
from cfgsync_runtime import serving_snapshot
from cfgsync_runtime.access.admission import Admission, readers_of

OPERATORS = [
    ("POST", "/admin/renew", {}),
    ("POST", "/admin/evict", {"identifier": "a"}),
    ("POST", "/node/replace", {"identifier": "a", "files": [{"path": "/id", "content": "mine"}]}),
    ("GET", "/admin/generations", None),
    ("GET", "/admin/generations?number=1&contents=1", None),
    ("GET", "/admin/snapshot", None),
    ("GET", "/admin/nodes", None),
    ("GET", "/admin/nodes/a", None),
]


class Each:
    def materialize_snapshot(self, nodes: RegistrationSnapshot) -> MaterializedArtifacts:
        return MaterializedArtifacts.from_nodes({n.identifier: [ArtifactFile("/id", "its")] for n in nodes})


@asynccontextmanager
async def serving(**more: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, aiohttp.ClientSession]]:
    """Sessions over TCP and over the admin socket of a server where `a` is registered."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        async with (
            serving_snapshot(Each(), admin_socket=path, **more) as server,
            aiohttp.ClientSession(server.url) as tcp,
            aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(path)) as unix,
        ):
            assert (await tcp.post("/register", json={"identifier": "a", "ip": "10.0.0.1"})).status == 202
            assert (await tcp.post("/node", json={"identifier": "a"})).status == 200
            yield tcp, unix


async def files(session: aiohttp.ClientSession) -> str:
    answer = await session.post("/node", json={"identifier": "a"})
    text: str = (await answer.json())["files"][0]["content"]
    return text


@pytest.mark.parametrize("headers", [{}, {"Host": "localhost"}, {"Authorization": "Bearer x"}])
async def test_over_tcp_every_operator_s_route_is_403(headers: dict[str, str]) -> None:
    async with serving() as (tcp, unix):
        for method, path, words in OPERATORS:
            answer = await tcp.request(method, path, json=words, headers=headers)
            assert (answer.status, (await answer.json())["code"]) == (403, "forbidden"), path
        assert await files(tcp) == "its"
        for method, path, words in OPERATORS:
            answer = await unix.request(method, path, json=words, headers={"Origin": "http://x"})
            assert answer.status == 403, path
            answer = await unix.request(method, path, json=words, headers=headers)
            assert answer.status in (200, 202), path


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: another user needs root")
async def test_another_user_to_whom_the_socket_was_opened_is_no_operator() -> None:
    """By hand, or by a volume that knows no modes."""
    ask = (
        "import os, socket, sys; os.setuid(int(sys.argv[2])); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(b'GET /admin/snapshot HTTP/1.0\\r\\n\\r\\n'); print(s.recv(99).split()[1].decode())"
    )
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        path = f"{directory}/admin.sock"
        async with serving_snapshot(Each(), admin_socket=path):
            os.chmod(path, 0o666)
            for user, status in (("65534", "403"), ("0", "200")):
                asked = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-c", ask, path, user), stdout=asyncio.subprocess.PIPE
                )
                assert (await asked.communicate())[0].decode() == f"{status}\n"


async def test_a_body_that_is_refused_is_not_read_over_tcp() -> None:
    async with serving() as (tcp, unix):
        kind = {"Content-Type": "application/json"}
        assert (await tcp.post("/node/replace", data=b"not JSON", headers=kind)).status == 403
        assert (await unix.post("/node/replace", data=b"not JSON", headers=kind)).status == 400


async def test_with_legacy_replace_a_program_of_this_machine_may_replace_and_nothing_else() -> None:
    async with serving(legacy_replace=True) as (tcp, _):
        mine = {"identifier": "a", "files": [{"path": "/id", "content": "mine"}]}
        for headers in ({"Origin": "http://x"}, {"Host": "attacker.example"}, {"Via": "1.1 nginx"}):
            assert (await tcp.post("/node/replace", json=mine, headers=headers)).status == 403, headers
        absolute = json.dumps(mine).encode()
        assert await raw(tcp, "http://attacker.example/node/replace", absolute) == 403
        assert await files(tcp) == "its"
        assert (await tcp.post("/node/replace", json=mine)).status == 202
        for method, path, words in OPERATORS:
            if path != "/node/replace":
                assert (await tcp.request(method, path, json=words)).status == 403, path


async def test_a_target_in_absolute_form_is_judged_by_its_own_host() -> None:
    async with serving() as (tcp, _):
        assert await raw(tcp, "http://attacker.example/") == 403
        assert await raw(tcp, "http://127.0.0.1@attacker.example:4400/") == 403
        assert await raw(tcp, "http://attacker.example?/") == 403
        assert await raw(tcp, "http://localhost/") == 200


@pytest.mark.parametrize("more", [{"page_contents": True}, {"over_tcp": ("replace",)}])
@pytest.mark.parametrize("readers", ["anyone", "none"])
def test_what_is_for_the_server_s_own_machine_is_not_for_a_server_that_others_reach(
    readers: Any, more: Any
) -> None:
    with pytest.raises(ValueError, match="on loopback only"):
        Admission(readers, **more)


async def test_the_page_is_for_anyone_off_loopback_only_where_anyone_may_join() -> None:
    async def page(_: Call) -> Reply:
        return Reply(200)

    route = Route("GET", "/", page, "page", "reader")
    closed = Admission(readers_of("0.0.0.0", ("no-tls",))).before_body(route, Call())
    assert closed is not None
    assert (closed.status, b"readers with a token" in b"".join(closed.chunks)) == (403, True)
    asked = Admission(readers_of("0.0.0.0", ("no-tls",), requires_tokens=True)).before_body(route, Call())
    assert asked is not None
    assert asked.status == 401
    assert Admission(readers_of("0.0.0.0", ("no-tls", "no-auth"))).before_body(route, Call()) is None


async def raw(session: aiohttp.ClientSession, target: str, body: bytes = b"") -> int:
    """The status of a request whose target is sent as it is, with an own name in `Host`."""
    port = session._base_url.port if session._base_url is not None else 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    method = "POST" if body else "GET"
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])
