"""The original's recorded exchanges, replayed byte for byte against a real server on a real socket."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NodeRegistration,
    NotReady,
    RegistrationConfigSource,
    RegistrationSnapshot,
)
from cfgsync_core import CfgsyncServerState, HttpServer, NodeConfigSource, StaticConfigSource
from tests.core.raw_http import DIFFERENT, EXCHANGES, REFUSED_PEERS, check, named, raw, send


class Recorded:
    """The materializer that stood behind the recorded server (`reference/wire/README.md`)."""

    def __init__(self, quorum: int, shared: bool) -> None:
        self.quorum = quorum
        self.shared = shared

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        if len(registrations) < self.quorum:
            return NotReady("too few")
        nodes: dict[str, ArtifactSet] = {}
        for r in registrations:
            words = r.metadata if isinstance(r.metadata, dict) else {}
            if "fail" in words:
                raise RuntimeError(words["fail"])
            if "panic" in words:
                raise SystemExit("panic")
            if "skip" in words:
                continue
            peers = "".join(f"- {name}\n" for name in registrations.identifiers if name != r.identifier)
            text = f"id: {r.identifier}\npeers:\n{peers}{words.get('note', '')}"
            if "echo" in words:
                text += f"meta: {r.payload.raw_json()}\n"
            nodes[r.identifier] = ArtifactSet([ArtifactFile("/config.yaml", text)])
        made = MaterializedArtifacts.from_nodes(nodes)
        text = f"cluster: ready\nnodes: {len(registrations)}\n"
        return made.with_shared([ArtifactFile("/shared.yaml", text)]) if self.shared else made


@asynccontextmanager
async def server(source: NodeConfigSource) -> AsyncIterator[int]:
    async with HttpServer(CfgsyncServerState(source).routes(), port=0) as running:
        yield running.port


async def register_whom_the_answer_shows(source: RegistrationConfigSource, exchange: dict[str, Any]) -> None:
    """Not all that was recorded is kept: who is named in an answer had registered before it."""
    if exchange["status"] != 200 or exchange["name"] in DIFFERENT:
        return
    content = json.loads(exchange["body"])["files"][0]["content"]
    own = re.match(r"id: (.*)\n", content)
    assert own is not None
    for name in [own[1], *re.findall(r"^- (.*)$", content, re.MULTILINE)]:
        if name not in REFUSED_PEERS and not source.node(name).registered:
            await source.register(NodeRegistration(name, "127.0.0.1"))


@pytest.mark.parametrize(
    ("group", "quorum", "before"),
    [
        ("client_alone", 2, []),
        ("client_shared", 2, ["node-1"]),
        ("client_meta_null", 2, ["node-a"]),
        ("client_meta_bignum2", 2, ["node-a", "node-b"]),
        ("client_skip", 1, []),
    ],
)
async def test_an_original_client_gets_the_bytes_it_got_from_the_original(
    group: str, quorum: int, before: list[str]
) -> None:
    exchanges = named(group)
    assert exchanges
    source = RegistrationConfigSource(Recorded(quorum, shared=group == "client_shared"))
    async with source, server(source) as port:
        for name in before:
            await source.register(NodeRegistration(name, "10.0.0.1"))
        for exchange in exchanges:
            check(exchange, *await send(port, raw(exchange)))


async def test_a_static_bundle_is_served_byte_for_byte() -> None:
    payloads = {
        e["name"]: json.loads(e["body"]) for e in EXCHANGES if "static" in e["name"] and e["status"] == 200
    }
    known = ArtifactSet(ArtifactFile(**file) for file in payloads["client_static_known_node_200"]["files"])
    source = StaticConfigSource({"node-1": known, "empty-node": ArtifactSet()})
    async with server(source) as port:
        for exchange in [*named("client_static"), *named("static_404")]:
            check(exchange, *await send(port, raw(exchange)))


async def test_precomputed_artifacts_are_served_byte_for_byte_after_registration() -> None:
    precomputed = MaterializedArtifacts.from_nodes({"node-1": [ArtifactFile("/config.yaml", "id: node-1\n")]})
    source = RegistrationConfigSource(
        precomputed.with_shared([ArtifactFile("/shared.yaml", "cluster: ready")])
    )
    async with source, server(source) as port:
        for exchange in named("client_reg_source"):
            check(exchange, *await send(port, raw(exchange)))


async def test_every_other_recorded_exchange_is_answered_as_recorded() -> None:
    source = RegistrationConfigSource(Recorded(1, shared=True))
    replayed = 0
    async with source, server(source) as port:
        for exchange in EXCHANGES:
            name = exchange["name"]
            if "request" not in exchange or name.startswith(("client_", "static_", "keep_alive_two#2")):
                continue
            if name.endswith("_node") and name.removesuffix("_node") + "_register" in DIFFERENT:
                continue
            await register_whom_the_answer_shows(source, exchange)
            status, headers, body = await send(port, raw(exchange))
            check(exchange, status, headers, body)
            replayed += 1
    assert replayed > 50


async def test_bodies_beyond_the_limit_are_refused_and_the_limit_is_64_kib() -> None:
    source = RegistrationConfigSource(Recorded(1, shared=True))
    async with source, server(source) as port:
        for size, expected in [(65_536, 413), (65_537, 413), (3_145_779, 413)]:
            head = b'{"identifier":"big","ip":"127.0.0.1","metadata":"'
            body = head + b"x" * (size - len(head) - 2) + b'"}'
            request = (
                b"POST /register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                % size
            )
            status, _, answer = await send(port, request + body)
            assert status == expected
            words = json.loads(answer)
            # at 64 KiB the body is taken, and the metadata is named
            assert words["message"].startswith("metadata" if size == 65_536 else "the body"), words


@pytest.mark.parametrize("name", ["keep_alive_two#1"])
async def test_pipelined_requests_are_answered_in_order(name: str) -> None:
    source = RegistrationConfigSource(Recorded(1, shared=True))
    request = next(e for e in EXCHANGES if e["name"] == name)["request"].encode()
    async with source, server(source) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        second = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()
        assert b" 202 " in first
        assert b" 200 " in second
