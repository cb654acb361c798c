"""The requests of the load generator, whole as they go over the wire, and what the bare yardstick says back."""

from __future__ import annotations

import base64

from cfgsync_core import NodeArtifactsPayload

from .materializers import file_of

EPOCH = "01890a5d-ac96-774b-bcce-b302099a8057"
PUT_VALUE_BYTES = 90


def identifier(number: int) -> str:
    return f"node-{number:06d}"


def registration(number: int) -> bytes:
    """A registration of about 90 bytes, with small metadata; each node has an address of its own."""
    ip = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return (
        f'{{"identifier":"{identifier(number)}","ip":"{ip}","metadata":{{"port":{3000 + number % 1000},"zone":"b"}}}}'
    ).encode()


def post(path: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def register(number: int) -> bytes:
    return post("/register", registration(number))


def register_with_secret(number: int) -> bytes:
    return post("/register", registration(number), f"Authorization: Bearer {number:064x}\r\n")


def node(number: int) -> bytes:
    return post("/node", registration(number))


def held_node(number: int) -> bytes:
    return post("/node", registration(number), "Prefer: wait=30\r\n")


def etcd_put(number: int) -> bytes:
    """A durable put of a body of the same size through etcd's JSON gateway."""
    key = base64.b64encode(f"/nodes/{identifier(number)}".encode()).decode()
    value = base64.b64encode(registration(number)).decode()
    return post("/v3/kv/put", f'{{"key":"{key}","value":"{value}"}}'.encode())


def release(number: int) -> bytes:
    """What makes the bare yardstick answer everybody whom it holds."""
    return post("/release", b"{}")


DOCUMENT = "/api/v1/config/theme"
SNAPSHOT = "/v1/config/apps/default/envs/default/snapshot"


def document_body() -> bytes:
    """A document of 4 KiB, with a member for each writer."""
    members = ",".join(f'"f{n}":{n}' for n in range(64))
    return f'{{{members},"text":"{"x" * 3_500}"}}'.encode()


def read_document(number: int) -> bytes:
    return f"GET {DOCUMENT} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def known_snapshot(number: int) -> bytes:
    """Answered 304, whatever its version is."""
    return f"GET {SNAPSHOT} HTTP/1.1\r\nHost: 127.0.0.1\r\nIf-None-Match: *\r\n\r\n".encode()


def set_document(number: int) -> bytes:
    return post(DOCUMENT, document_body())


def patch_document(number: int) -> bytes:
    return post(DOCUMENT, f'{{"f{number % 64}":{1_000 + number}}}'.encode()).replace(b"POST", b"PATCH", 1)


def payload(number: int) -> NodeArtifactsPayload:
    return NodeArtifactsPayload.from_files(file_of(identifier(number)))
