"""The original's recorded exchanges, replayed byte for byte against a real server on a real socket.

`golden/exchanges.json` holds the original's requests and its exact answers. What differs does so on purpose, and its
row stands in `DIFFERENT` with the reason.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
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

EXCHANGES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "golden" / "exchanges.json").read_text()
)

DIFFERENT = {
    "ipv6": (202, "IPv6 is taken beyond the original"),
    "missing_ip_node": (200, "only the identifier is needed on /node"),
    "body_array_positional": (422, "an array is not a registration"),
    "body_array_four": (422, "an array is not a registration"),
    "trailing_chars": (400, "one document, not one and a tail"),
    "bad_utf8_unknown": (400, "UTF-8 only, in ignored values too"),
    "empty_identifier_register": (422, "identifiers follow trust.md"),
    "empty_identifier_node": (422, "identifiers follow trust.md"),
    "identifier_nul_register": (422, "identifiers follow trust.md"),
    "identifier_nul_node": (422, "identifiers follow trust.md"),
    "static_replace": (404, "a static source has no /node/replace"),
    "static_replaced_node": (200, "a static source has no /node/replace"),
    "replace_202": (404, "/node/replace comes with the issue Stay in step"),
    "replaced_node": (200, "/node/replace comes with the issue Stay in step"),
    "replace_bad": (404, "/node/replace comes with the issue Stay in step"),
    "replace_unregistered": (404, "/node/replace comes with the issue Stay in step"),
    "huge_declared_only": (413, "an oversized body is refused before it is sent"),
    "huge_header_20k": (400, "one header is at most 4 KiB"),
    "huge_header_500k": (400, "one header is at most 4 KiB"),
    "no_host": (400, "RFC 9112, section 3.2: HTTP/1.1 without Host is 400, and the HTTP library holds to it"),
    "panic_node": (500, "a failed run is told, not a closed connection"),
    "panic_node_again": (500, "a failed run is told, not a closed connection"),
    "deep_metadata_126_register": (422, "metadata is at most 32 deep"),
    "deep_metadata_126_node": (425, "it was not registered, since its metadata is at most 32 deep"),
}
REFUSED_PEERS = {"", "a\0b", "arr", "nœud-1"}


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
    async with HttpServer(CfgsyncServerState(source).handlers(), port=0) as running:
        yield running.port


async def send(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """The answer to raw bytes: status, headers with lower-case names, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        lines = head.decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
        length = 0 if request.startswith(b"HEAD ") else int(headers.get("content-length", "0"))
        body = await reader.readexactly(length)
        return int(lines[0].split()[1]), headers, body
    finally:
        writer.close()


def named(prefix: str) -> list[dict[str, Any]]:
    return [e for e in EXCHANGES if e["name"].startswith(prefix)]


def raw(exchange: dict[str, Any]) -> bytes:
    request: str = exchange["request"]
    return request.encode()


def without_refused_peers(body: str) -> bytes:
    """The original's body as it would be without the peers whose names ours refuses."""
    payload = json.loads(body)
    gone = 0
    for file in payload["files"]:
        for name in REFUSED_PEERS:
            if f"- {name}\n" in file["content"]:
                file["content"] = file["content"].replace(f"- {name}\n", "", 1)
                gone += 1
        file["content"] = re.sub(r"nodes: (\d+)", lambda m, g=gone: f"nodes: {int(m[1]) - g}", file["content"])
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


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


def check(exchange: dict[str, Any], status: int, headers: dict[str, str], body: bytes) -> None:
    """The answer is the original's, or differs as `DIFFERENT` says."""
    name = exchange["name"]
    if name in DIFFERENT:
        expected, why = DIFFERENT[name]
        assert status == expected, f"{name}: {why}"
        if status >= 400:
            assert json.loads(body)["code"], name
        return
    assert status == exchange["status"], (name, body)
    for key, value in exchange["headers"]:
        if key in ("allow", "content-type") and status in (200, 202, 404, 405, 425):
            assert headers[key] == value, name
    if status in (200, 202):
        expected_body = without_refused_peers(exchange["body"]) if status == 200 else b""
        if name == "metadata_numbers_node":  # numbers keep Python's value and spelling
            python = (
                b'{\\"big\\":18446744073709551616,\\"echo\\":1,\\"f\\":100.0,\\"g\\":1.1,\\"h\\":0,\\"i\\":-0.0,'
                b'\\"i64\\":-9223372036854775808,\\"j\\":1e-07,\\"k\\":1e+22,\\"l\\":1.2345678901234568e+29,'
                b'\\"neg\\":-9223372036854775809,\\"u64\\":18446744073709551615}'
            )
            expected_body = re.sub(rb"(?<=meta: )\{.*?\}", lambda _: python, expected_body, count=1)
        assert body == expected_body, name
    elif status in (400, 413, 415, 422):
        words = json.loads(body)
        assert words["code"] == "invalid_request", name
        if field := re.search(r"(?:field `|: )(identifier|ip|metadata)\b", exchange["body"]):
            assert words["message"].startswith(field[1]) or status == 400, (name, words)
    elif exchange["body"]:
        ours, theirs = json.loads(body), json.loads(exchange["body"])
        assert {key: ours[key] for key in theirs} == theirs, name
        assert body.startswith(exchange["body"].encode()[:-1]), f"{name}: the original's words come first"


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
