"""A served fleet as operators see it: streams end with the server, its log is JSON, its page is there."""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.processes import Place, body, eventually

APPLICATION = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts

class EveryNodeItsName:
    def materialize_snapshot(self, registrations):
        return MaterializedArtifacts.from_nodes({r.identifier: [ArtifactFile("/id", r.identifier)] for r in registrations})
"""


def watch(port: int) -> socket.socket:
    page = socket.create_connection(("127.0.0.1", port), timeout=30)
    page.sendall(b"GET /watch HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
    return page


def heard(page: socket.socket, until: bytes, said: bytes = b"") -> bytes:
    while until not in said:
        piece = page.recv(65536)
        assert piece, said
        said += piece
    return said


@pytest.mark.timed
def test_sigterm_ends_streams_at_once_and_each_log_line_is_json(place: Place) -> None:
    place.write("application.py", APPLICATION)
    server = place.serve("application:EveryNodeItsName", "--store", "memory:", "--json-logs")
    pages = [watch(server.port) for _ in range(10)]
    for page in pages:
        heard(page, b"event: hint\ndata: {}\n\n")
    assert server.ask("POST", "/register", body("node-1", {"token": "m3tadata"})).status == 202
    for page in pages:
        heard(page, b"event: hint\ndata: {}\n\n")
    metrics = server.ask("GET", "/metrics")
    assert metrics.status == 200
    assert b"\ncfgsync_watchers 10.0\n" in metrics.body
    eventually(lambda: '"generation"' in server.log)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 3
    for page in pages:
        heard(page, b"0\r\n\r\n")
        assert page.recv(1) == b""
        page.close()
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert [line["event"] for line in lines] == ["admin_socket", "run", "stopping"]
    assert "m3tadata" not in server.log
