"""Secrets that a server is given are in no line of its log, at no level, and on none of its pages."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from typing import Any

import aiohttp
import pytest

from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, RegistrationSnapshot
from cfgsync_core import OutcomeUnknown
from cfgsync_core.store.memory import MemoryStore
from cfgsync_runtime import serving_snapshot
from cfgsync_runtime.access.tokens.credentials import BUCKET

CANARY = "CANARY-of-a-secret-0123456789"


class Files:
    def materialize_snapshot(self, nodes: RegistrationSnapshot) -> MaterializedArtifacts:
        secret = {n.identifier: n.metadata for n in nodes}  # a traceback shows no variable
        if "raises" in secret:
            raise LookupError(f"no rack for {len(secret)} nodes")
        return MaterializedArtifacts.from_nodes(
            {n.identifier: [ArtifactFile("/key", CANARY, "0600")] for n in nodes}
        )


class Failing(MemoryStore):
    """Fails to bind a name, with a traceback, when it is told to."""

    fails = False

    async def commit(self, bucket: str, *arguments: Any, **more: Any) -> Any:
        if self.fails and bucket == BUCKET:
            raise OutcomeUnknown("no answer") if self.fails != "hard" else RuntimeError("broken")
        return await super().commit(bucket, *arguments, **more)


async def raw(port: int, head: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    try:
        return await asyncio.wait_for(reader.read(65536), 2)
    except TimeoutError:
        return b""
    finally:
        writer.close()


async def test_a_canary_in_every_input_is_in_no_log_no_status_no_metric_and_no_page(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("cfgsync"), "propagate", True)
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    store = Failing()
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/admin.sock"
        async with (
            serving_snapshot(
                Files(), admin_socket=path, store=store, requires_tokens=True, anonymous=False, documents=True
            ) as server,
            aiohttp.ClientSession(server.url, cookie_jar=aiohttp.DummyCookieJar()) as tcp,
            aiohttp.ClientSession(server.url, connector=aiohttp.UnixConnector(path)) as unix,
        ):
            made = await unix.post("/admin/token/create", json={"for": "*", "uses": 5})
            join = (await made.json())["token"]
            made = await unix.post("/admin/token/create", json={"role": "operator", "name": "ana"})
            operator = (await made.json())["token"]
            secrets = (CANARY, join[21:], operator[21:])
            node = {"Authorization": f"Bearer {CANARY}", "Cfgsync-Join-Token": join}
            words = {"identifier": "a", "ip": "10.0.0.1", "metadata": {"password": CANARY}}
            for fails in (True, "hard", False):
                store.fails = fails  # type: ignore[assignment]
                await tcp.post("/register", json=words, headers=node)
            assert (
                await tcp.post("/node", json=words, headers={**node, "Cfgsync-Accept": "base64, mode"})
            ).status == 200
            for headers in (
                {"Authorization": f"Bearer {CANARY}x"},
                {"Authorization": f"Basic {CANARY}"},
                {
                    "Authorization": f"Bearer {operator}",
                    "Cookie": f"cfgsync-session-{server.port}={CANARY}",
                    "Origin": "http://x",
                },
                {"Authorization": f"Bearer {join}", "Cfgsync-Next-Secret": CANARY},
            ):
                for method, target, body in (
                    ("POST", "/register", words),
                    ("POST", "/node", words),
                    ("POST", "/ack", {**words, "generation": "x.1"}),
                    ("POST", "/admin/evict", {"identifier": "nobody"}),
                    ("GET", "/status", None),
                    ("GET", "/", None),
                    ("GET", "/admin/tokens", None),
                ):
                    answer = await tcp.request(
                        method, target, json=body, headers=headers, allow_redirects=False
                    )
                    shown.append(await answer.text())
            one = "/v1/config/admin/apps/shop/envs/live/namespaces/n/documents/k"
            for over, method, target, body in (
                (unix, "PUT", one, {"contentJson": f'"{CANARY}"'}),
                (unix, "PUT", one, {"contentJson": f'"{CANARY}'}),
                (unix, "POST", f"{one}/rollback", {"toVersion": 99, "note": CANARY}),
                (unix, "POST", "/api/v1/config/k?app=shop&environment=live", {"password": CANARY}),
                (unix, "PATCH", "/api/v1/config/k?app=shop&environment=live", [CANARY]),
                (tcp, "PUT", one, {"contentJson": f'"{CANARY}"'}),
                (tcp, "POST", "/api/v1/config/k?app=shop&environment=live", {"password": CANARY}),
            ):
                answer = await over.request(method, target, json=body, headers={"Authorization": CANARY})
                shown.append(await answer.text())
            await tcp.post("/login", data={"token": CANARY})
            await tcp.post("/login", data={"token": operator})
            port = server.port
            for head in (
                b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer " + CANARY.encode() + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \x01" + CANARY.encode() + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: x\r\nCfgsync-Join-Token: " + CANARY.encode() * 400 + b"\r\n\r\n",
                b"GET / HTTP/1.1\nHost: x\nAuthorization: Bearer " + CANARY.encode() + b"\n\n",
            ):
                await raw(port, head)  # the answer goes to its sender alone
            admin = {"Authorization": f"Bearer {operator}"}
            for target in (
                "/status",
                "/status/a",
                "/metrics",
                "/",
                "/?node=a",
                "/openapi.json",
                "/admin/tokens",
                "/admin/nodes/b",
            ):
                answer = await tcp.get(target, headers={**admin, "Accept": "text/html"})
                text = await answer.text()
                shown.append(
                    text if "node=a" not in target else text.replace(CANARY, "")
                )  # its metadata, for an operator
            words = {**words, "identifier": "raises"}
            await tcp.post("/register", json=words, headers={**node, "Authorization": f"Bearer {CANARY}2"})
            answer = await tcp.post("/node", json=words, headers={"Authorization": f"Bearer {CANARY}2"})
            shown.append(await answer.text())
            assert answer.status == 500
            over = ("/status", "/admin/tokens", "/admin/generations?number=1&contents=1")
            shown += [await (await unix.get(target)).text() for target in over]
    traces = "".join(
        f"{record.exc_text or ''}{getattr(record, 'traceback', '')}" for record in caplog.records
    )
    log = caplog.text + traces
    assert "RuntimeError: broken" in log, "the log was read, with its tracebacks"
    assert "LookupError: no rack for" in log
    hits = sum(secret in text for secret in secrets for text in (log, *shown))
    print(
        f"{len(caplog.records)} lines at debug and {len(shown)} answers: {hits} hits of {len(secrets)} secrets"
    )
    assert hits == 0
