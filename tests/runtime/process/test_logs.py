"""The log: one line for each outcome, with stable keys, and never a body, metadata, a file or a secret at any level."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from cfgsync_adapter import (
    ArtifactFile,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationSnapshot,
)
from cfgsync_core.log_events import event
from cfgsync_runtime import serving_snapshot
from cfgsync_runtime.process.logs import JsonLines

SECRET, METADATA, CONTENT = "s3cr3t-of-node", "m3tadata-of-node", "c0ntent-of-file"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
async def lines() -> AsyncIterator[Lines]:
    """What every logger says at every level, as `--json-logs` writes it."""
    said: list[dict[str, Any]] = []
    formatter = JsonLines()

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(json.loads(formatter.format(record)))

    kept, root, ours = Kept(), logging.getLogger(), logging.getLogger("cfgsync")
    before = (root.level, ours.level, ours.propagate)
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    ours.setLevel(logging.DEBUG)
    ours.propagate = True
    try:
        yield lambda: said
    finally:
        root.removeHandler(kept)
        root.setLevel(before[0])
        ours.setLevel(before[1])
        ours.propagate = before[2]


class Obedient:
    """Ready with two nodes; fails while a node's metadata has `fail`."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        if any("fail" in (r.metadata or {}) for r in registrations):
            raise RuntimeError("no room in the plan")
        if len(registrations) < 2:
            return NotReady(f"waiting for 2 nodes, have {len(registrations)}", retry_after=0.02)
        return MaterializedArtifacts.from_nodes(
            {r.identifier: [ArtifactFile("/key", f"{CONTENT} of {r.identifier}")] for r in registrations}
        )


async def traffic(lines: Lines) -> None:
    """Registrations, answers, refusals, failures and nonsense."""
    async with serving_snapshot(Obedient()) as server, aiohttp.ClientSession() as session:

        async def post(
            path: str, words: object, secret: str | None = SECRET, raw: bytes | None = None
        ) -> int:
            headers = {"Content-Type": "application/json"}
            if secret is not None:
                headers["Authorization"] = f"Bearer {secret}"
            data = json.dumps(words).encode() if raw is None else raw
            async with session.post(server.url + path, data=data, headers=headers) as answer:
                await answer.read()
                return answer.status

        def node(name: str, **metadata: str) -> dict[str, object]:
            return {"identifier": name, "ip": "10.0.0.1", "metadata": {"is": METADATA, **metadata}}

        async def until(outcome: str) -> None:
            while not any(line.get("facts", {}).get("outcome") == outcome for line in lines()):
                await asyncio.sleep(0.01)

        assert await post("/register", node("a")) == 202
        await until("not_ready")
        assert await post("/register", node("b")) == 202
        assert await post("/node", {"identifier": "a"}) == 200
        assert await post("/register", node("a"), f"other-{SECRET}") == 409
        assert await post("/node", {"identifier": "a"}, f"other-{SECRET}") == 403
        assert await post("/node", {"identifier": "a"}, None) == 401
        assert await post("/register", node("c", fail="yes")) == 202
        await until("failed")
        for raw in (METADATA.encode(), b'{"identifier":"' + METADATA.encode(), b"\xff" + SECRET.encode()):
            assert await post("/register", None, raw=raw) == 400
        assert await post("/register", {"identifier": METADATA, "ip": SECRET}) == 422
        assert await post(f"/nowhere/{SECRET}", {"x": METADATA}) == 404
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"NONSENSE {SECRET}\r\n\r\n".encode())
        assert b" 400 " in await reader.readline()
        writer.close()


async def test_no_line_at_any_level_holds_a_secret_metadata_or_a_file(lines: Lines) -> None:
    await traffic(lines)
    said = json.dumps(lines())
    assert len(lines()) > 5
    for word in (SECRET, METADATA, CONTENT):
        assert word not in said


async def test_each_outcome_is_one_line_with_the_same_keys(lines: Lines) -> None:
    await traffic(lines)
    ours = [line for line in lines() if line["logger"].startswith("cfgsync")]
    for line in ours:
        assert list(line)[:5] == ["ts", "level", "event", "msg", "logger"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])
        assert "\n" not in line["msg"]
    runs = [line for line in ours if line["event"] == "run"]
    told = [(line["level"], line["facts"]["outcome"]) for line in runs if line["level"] != "debug"]
    assert told == [("info", "not_ready"), ("info", "generation"), ("warning", "failed")]
    assert sum(line["facts"]["outcome"] == "not_ready" for line in runs) >= 1
    made = next(line["facts"] for line in runs if line["facts"]["outcome"] == "generation")
    assert (made["nodes"], made["registrations_revision"], made["generation"][-2:]) == (2, 2, ".1")
    assert runs[0]["msg"] == "not ready: waiting for 2 nodes, have 1"
    registered = [line for line in ours if line["event"] == "registered"]
    assert [line["facts"]["identifier"] for line in registered] == ["a", "b", "c"]
    assert {line["level"] for line in registered} == {"debug"}


async def test_the_same_reason_asked_again_is_told_once(lines: Lines) -> None:
    async with serving_snapshot(Obedient()) as server, aiohttp.ClientSession() as session:
        words = {"identifier": "a", "ip": "10.0.0.1"}
        await (await session.post(f"{server.url}/register", json=words)).read()

        def runs() -> list[str]:
            return [line["level"] for line in lines() if line["event"] == "run"]

        while len(runs()) < 4:
            await asyncio.sleep(0.01)
    assert runs()[:4] == ["info", "debug", "debug", "debug"]


async def test_a_request_leaves_no_line_there_is_no_access_log(lines: Lines) -> None:
    async with serving_snapshot(Obedient()) as server, aiohttp.ClientSession() as session:
        before = len(lines())
        for path in ("/livez", "/status", "/metrics", "/nowhere"):
            await (await session.get(server.url + path)).read()
        assert [line for line in lines()[before:] if line["logger"] != "asyncio"] == []


def test_a_line_without_an_event_and_one_with_a_traceback_are_json_too() -> None:
    try:
        raise ValueError("what is wrong")
    except ValueError as error:
        record = logging.LogRecord(
            "cfgsync", logging.ERROR, "", 1, "it %s", ("failed",), (type(error), error, None)
        )
    line = json.loads(JsonLines().format(record))
    assert (line["event"], line["msg"], line["level"]) == ("log", "it failed", "error")
    assert "ValueError: what is wrong" in line["error"]
    record.__dict__.update(event("x", many=3))
    line = json.loads(JsonLines().format(record))
    assert (line["event"], line["facts"]) == ("x", {"many": 3})
