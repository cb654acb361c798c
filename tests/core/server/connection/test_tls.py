"""A server with TLS: its handshakes are within its limits, and a replaced certificate disturbs no open connection."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, Quorum, RegistrationConfigSource
from cfgsync_artifacts import ArtifactSet
from cfgsync_core import CfgsyncServerState, HttpServer, StaticConfigSource
from cfgsync_core.node import shown_chain
from cfgsync_core.server.connection import handshake
from tests.certificates import Authority, server_context
from tests.chaos.form import sized
from tests.core.raw_http import EXCHANGES, check, named, raw, send
from tests.core.server.connection.test_connections import Never, request, status
from tests.routes import routes_of


class Greeting:
    """Files for each node that registered."""

    def materialize_snapshot(self, nodes):  # type: ignore[no-untyped-def]
        return MaterializedArtifacts.from_nodes({n: [ArtifactFile("/hello", n)] for n in nodes.identifiers})


class Site:
    """A server whose certificate a test replaces: `context` is what the next connection gets."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.context = server_context(self.authority.pair())
        self.trusting = ssl.create_default_context(cafile=str(self.authority.file))
        self.trusting.verify_flags &= ~ssl.VERIFY_X509_STRICT

    @asynccontextmanager
    async def serving(
        self, materializer: object, max_connections: int | None = None
    ) -> AsyncIterator[HttpServer]:
        async with RegistrationConfigSource(materializer) as source:  # type: ignore[arg-type]
            tls = lambda: self.context  # noqa: E731
            server = HttpServer(routes_of(source), port=0, tls=tls, max_connections=max_connections)
            async with server:
                yield server
                source.drain()

    async def opened(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", port, ssl=self.trusting, server_hostname="localhost"
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_silent_peers_keep_no_speaking_one_out_and_are_within_the_limit(site: Site) -> None:
    async with site.serving(Never(), max_connections=50) as server:
        held = await site.opened(server.port)
        held[1].write(request("POST", "/register", b'{"identifier":"a","ip":"10.0.0.1"}'))
        assert await status(held[0]) == 202
        held[1].write(request("POST", "/node", b'{"identifier":"a"}', "prefer: wait=20\r\n"))
        await asyncio.sleep(0.1)
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(200)]
        for _, writer in silent[::2]:
            writer.write(b"\x16\x03\x01")  # half of them begin a handshake, and stop
        began = time.monotonic()
        reader, writer = await site.opened(server.port)
        writer.write(request("GET", "/livez"))
        assert await status(reader) == 200
        print(f"answered {(time.monotonic() - began) * 1000:.0f} ms after it came, beside 200 silent ones")
        assert server.connections <= 50
        assert server.evicted >= 150
        assert not held[0].at_eof()  # it waits for an answer, and was never idle
        for _, other in [*silent, held, (reader, writer)]:
            other.transport.abort()


async def test_a_handshake_that_does_not_end_is_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.2)
    async with site.serving(Never()) as server:
        peers = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        peers[1][1].write(b"\x16\x03\x01")
        for reader, writer in peers:
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
        while server.connections:
            await asyncio.sleep(0.01)


async def test_plain_http_on_the_port_is_answered_with_what_to_do(site: Site) -> None:
    async with site.serving(Never()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request("POST", "/register", b'{"identifier":"a","ip":"10.0.0.1"}'))
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 426 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["message"] == "this port speaks TLS: use https://"
        writer.close()


async def test_a_peer_that_speaks_only_an_old_version_gets_no_connection(site: Site) -> None:
    async with site.serving(Never()) as server:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=old)
        assert writer.get_extra_info("cipher")[1] == "TLSv1.2"
        writer.close()


async def test_what_the_original_answered_is_answered_over_tls_byte_for_byte(site: Site) -> None:
    recorded = next(e for e in EXCHANGES if e["name"] == "client_static_known_node_200")
    files = [ArtifactFile(one["path"], one["content"]) for one in json.loads(recorded["body"])["files"]]
    source = StaticConfigSource({"node-1": ArtifactSet(files), "empty-node": ArtifactSet()})
    async with HttpServer(CfgsyncServerState(source).routes(), port=0, tls=lambda: site.context) as server:
        exchanges = [*named("client_static"), *named("static_404")]
        assert len(exchanges) == 5
        for exchange in exchanges:
            check(exchange, *await send(server.port, raw(exchange), site.trusting))


async def test_a_connection_gets_the_newest_certificate_also_one_without_a_server_name(site: Site) -> None:
    async with site.serving(Never()) as server:
        shown = []
        for _ in range(2):
            anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            anonymous.check_hostname, anonymous.verify_mode = False, ssl.CERT_NONE
            # an address is no server name: none is sent
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=anonymous)
            shown.append(shown_chain(writer.get_extra_info("ssl_object"))[0])
            writer.close()
            site.context = server_context(site.authority.pair())
        assert shown[0] != shown[1]


async def test_100_replaced_certificates_end_no_held_request(site: Site) -> None:
    nodes = [f"node-{i}" for i in range(sized(200, 1000))]
    pairs = [site.authority.pair() for _ in range(20)]
    async with site.serving(Quorum(Greeting(), at_least=len(nodes) + 1)) as server:
        gate = asyncio.Semaphore(100)
        waiting: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]] = []

        async def wait(name: str) -> None:
            async with gate:
                reader, writer = await site.opened(server.port)
            body = json.dumps({"identifier": name, "ip": "10.0.0.1"}).encode()
            writer.write(request("POST", "/register", body))
            assert await status(reader) == 202
            asked = request("POST", "/node", body, "prefer: wait=30\r\n")
            writer.write(asked)
            waiting.append((reader, writer, asked))

        async def answer(held: tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]) -> int:
            """A hold that has ended by itself (30 s) begins again, on the same connection."""
            reader, writer, asked = held
            while (code := await status(reader)) == 425:
                writer.write(asked)
            return code

        began = time.monotonic()
        await asyncio.gather(*map(wait, nodes))
        print(f"{len(nodes)} handshakes and registrations in {time.monotonic() - began:.1f} s")
        shown = set()
        for i in range(100):
            site.context = server_context(pairs[i % len(pairs)])
            reader, writer = await site.opened(server.port)
            shown.add(shown_chain(writer.get_extra_info("ssl_object"))[0])
            writer.close()
        assert len(shown) == len(pairs)
        assert not any(reader.at_eof() for reader, *_ in waiting)
        reader, writer = await site.opened(server.port)
        writer.write(request("POST", "/register", b'{"identifier":"last","ip":"10.0.0.1"}'))
        assert await status(reader) == 202
        answers = await asyncio.gather(*map(answer, waiting))
        print(f"{answers.count(200)} of {len(nodes)} held requests answered after 100 replaced certificates")
        assert answers == [200] * len(nodes)
        for _, other, *_ in [*waiting, (reader, writer)]:
            other.transport.abort()


@pytest.mark.parametrize(
    "same",
    [
        test_silent_peers_keep_no_speaking_one_out_and_are_within_the_limit,
        test_a_handshake_that_does_not_end_is_ended,
        test_plain_http_on_the_port_is_answered_with_what_to_do,
        test_a_connection_gets_the_newest_certificate_also_one_without_a_server_name,
    ],
)
def test_on_uvloop_it_is_the_same(
    same: Callable[..., Awaitable[None]], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = (monkeypatch,) if "monkeypatch" in same.__code__.co_varnames else ()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(same(site, *more))  # type: ignore[arg-type]
