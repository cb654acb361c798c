"""The original's recorded exchanges: its requests as bytes, and whether an answer is the one that it gave.

`golden/exchanges.json` holds the original's requests and its exact answers. What differs does so on purpose, and its
row stands in `DIFFERENT` with the reason.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from pathlib import Path
from typing import Any

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


async def send(
    port: int, request: bytes, tls: ssl.SSLContext | None = None
) -> tuple[int, dict[str, str], bytes]:
    """The answer to raw bytes: status, headers with lower-case names, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
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
        file["content"] = re.sub(
            r"nodes: (\d+)", lambda m, g=gone: f"nodes: {int(m[1]) - g}", file["content"]
        )
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


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
