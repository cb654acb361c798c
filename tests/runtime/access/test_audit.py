"""Every operator's call, every write of a document and every refused one is a line: who, what, when, and from where."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import Any

import aiohttp
import pytest

from cfgsync_core import MemoryStore, StoreFull
from cfgsync_runtime import serving_snapshot
from cfgsync_runtime.process.logs import JsonLines
from tests.runtime.access.test_every_route import REGISTER, TABLE, A, Each, Fleet, bearer, serving

ADMIN = "/v1/config/admin/apps/shop/envs/live"
CALLS = ("operator_call", "writer_call", "document_written", "login")


class Stuck(MemoryStore):
    """Takes no commit while `held` is not set, and none at all while it is `full`."""

    def __init__(self) -> None:
        super().__init__()
        self.held = asyncio.Event()
        self.held.set()
        self.begun = asyncio.Event()
        self.full = False

    async def commit(self, *arguments: Any, **more: Any) -> Any:
        self.begun.set()
        await self.held.wait()
        if self.full:
            raise StoreFull("no room is left")
        return await super().commit(*arguments, **more)


def facts(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Each line's event with its facts, as `--json-logs` writes them."""
    lines = [
        json.loads(JsonLines().format(one)) for one in caplog.records if getattr(one, "event", "") in CALLS
    ]
    assert all(line["ts"] for line in lines), "a line says when"
    return [{"event": line["event"], **line["facts"]} for line in lines]


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("cfgsync"), "propagate", True)
    caplog.set_level("INFO", "cfgsync")


async def test_an_operator_s_call_and_a_refused_one_are_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(requires_tokens=True, anonymous=False) as fleet:
        caplog.clear()
        for principal in (
            "an operator",
            "a reader",
            "anyone",
            "an operator's token in a web page",
            "the admin socket",
        ):
            await fleet.ask(principal, "POST", "/admin/evict", {"identifier": "nobody"})
        found = facts(caplog)
        assert [(one["principal"], one["target"], one["status"], one["address"]) for one in found] == [
            ("operator bea", "nobody", 404, "127.0.0.1"),
            ("reader ana", "", 403, "127.0.0.1"),
            ("anyone", "", 403, "127.0.0.1"),
            ("anyone", "", 403, "127.0.0.1"),
            (f"user {os.geteuid()}", "nobody", 404, "admin socket"),
        ]
        assert {one["call"] for one in found} == {"POST /admin/evict"}


@pytest.mark.parametrize("principal", ["an operator", "the admin socket", "a reader", "node a"])
async def test_each_route_of_an_operator_leaves_one_line_with_its_status(
    principal: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(requires_tokens=True, anonymous=False) as fleet:
        caplog.clear()
        sent = []
        for (method, path), (kind, target, words) in TABLE.items():
            if kind == "operator":
                status = await fleet.ask(principal, method, target or path, words)
                sent.append((f"{method} {path}", status))
        assert [(one["call"], one["status"]) for one in facts(caplog)] == sent
        print(f"{principal}: {len(sent)} calls, a line each")


async def test_a_call_that_fails_or_is_not_heard_to_its_end_is_a_line_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Stuck()
    async with serving(requires_tokens=True, anonymous=False, store=store) as fleet:
        caplog.clear()
        operator = fleet.headers["an operator"]
        for body in (b"{", b'{"identifier":1}', b'{"identifier":"' + b"x" * 70_000 + b'"}'):
            kind = {**operator, "Content-Type": "application/json"}
            async with fleet.tcp.post("/admin/evict", data=body, headers=kind) as answer:
                assert answer.status in (400, 413, 422)
        async with fleet.tcp.post("/admin/evict", data=b"x", headers=operator) as answer:
            assert answer.status == 415
        store.full = True
        assert await fleet.ask("an operator", "POST", "/admin/evict", {"identifier": "b"}) == 507
        store.full = False
        two = [f"Authorization: {operator['Authorization']}"] * 2
        await _sent(fleet, "POST /admin/evict", two)
        assert [(one["principal"], one["status"]) for one in facts(caplog)] == [
            ("operator bea", 400),
            ("operator bea", 422),
            ("operator bea", 413),
            ("operator bea", 415),
            ("operator bea", 507),
            ("anyone", 400),
        ]
        assert {one["address"] for one in facts(caplog)} == {"127.0.0.1"}

        caplog.clear()
        store.begun.clear()
        store.held.clear()  # the caller goes away while the commit is under way, which is done nevertheless
        body = '{"identifier":"a"}'
        head = [two[0], "Content-Type: application/json", f"Content-Length: {len(body)}"]
        await _sent(fleet, "POST /admin/evict", head, body, until=store.begun)
        async with asyncio.timeout(30):
            while not facts(caplog):
                await asyncio.sleep(0.01)
        store.held.set()
        (line,) = facts(caplog)
        assert (line["principal"], line["target"], line["status"]) == ("operator bea", "a", None)
        assert "its caller went away before the answer" in caplog.text
        async with asyncio.timeout(30):
            while (await fleet.tcp.post("/node", json=REGISTER, headers=bearer(A))).status == 200:
                await asyncio.sleep(0.01)


async def test_a_write_of_documents_says_who_from_where_and_between_which_revisions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(requires_tokens=True, anonymous=False, documents=True) as fleet:
        caplog.clear()
        one = f"{ADMIN}/namespaces/n/documents/k"
        here = "/api/v1/config/k?app=shop&environment=live"
        writes = [{"namespace": "n", "configKey": "k2", "contentJson": '"CANARY"'}]
        for principal, method, target, words in (
            ("a writer", "PUT", one, {"contentJson": '"CANARY"'}),
            ("an operator", "PUT", one, {"contentJson": '"CANARY-2"'}),
            ("a writer", "POST", f"{one}/rollback", {"toVersion": 1}),
            ("the admin socket", "POST", here, {"a": "CANARY"}),
            ("a writer", "PATCH", here, {"b": "CANARY"}),
            ("a writer", "DELETE", here, None),
            ("a writer", "POST", f"{ADMIN}/commit", {"writes": writes}),
            ("a writer", "DELETE", one, None),
        ):
            assert await fleet.ask(principal, method, target, words) in (200, 204), (method, target)
        me = facts(caplog)[3]["by"]
        expected = [
            ("ci", "127.0.0.1", "n/k", 0, False),
            ("bea", "127.0.0.1", "n/k", 1, False),
            ("ci", "127.0.0.1", "n/k", 2, False),
            (me, "admin socket", "default/k", 0, False),
            ("ci", "127.0.0.1", "default/k", 4, False),
            ("ci", "127.0.0.1", "default/k", 5, True),
            ("ci", "127.0.0.1", "n/k2", 0, False),
            ("ci", "127.0.0.1", "n/k", 3, True),
        ]
        keys = ("by", "address", "document", "before", "deleted")
        assert [tuple(one[key] for key in keys) for one in facts(caplog)] == expected
        assert "CANARY" not in caplog.text

        caplog.clear()
        for principal in ("a reader", "node a", "anyone", "a join token"):
            await fleet.ask(principal, "PUT", one, {"contentJson": "1"})
        assert await fleet.ask("a writer", "PUT", one.replace("live", "test"), {"contentJson": "1"}) == 403
        defaults = "/v1/config/apps/shop/envs/live/defaults"
        assert await fleet.ask("anyone", "POST", defaults, {"defaults": []}) == 401
        refused = [(one["event"], one["principal"], one["status"], one["address"]) for one in facts(caplog)]
        assert refused[3][1].startswith("join token ")
        assert refused == [
            ("writer_call", "reader ana", 403, "127.0.0.1"),
            ("writer_call", "anyone", 401, "127.0.0.1"),
            ("writer_call", "anyone", 401, "127.0.0.1"),
            ("writer_call", refused[3][1], 403, "127.0.0.1"),
            ("writer_call", "writer ci", 403, "127.0.0.1"),
            ("writer_call", "anyone", 401, "127.0.0.1"),
        ]
        assert facts(caplog)[-2]["target"] == "shop/test n k"


async def test_a_login_from_another_origin_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(requires_tokens=True, anonymous=False) as fleet:
        caplog.clear()
        await fleet.ask("a web page", "POST", "/login", fleet.login)
        await fleet.ask("anyone", "POST", "/login", fleet.login)
        assert [(one["token"], one["address"]) for one in facts(caplog)] == [
            (None, "127.0.0.1"),
            ("ana", "127.0.0.1"),
        ]


async def _sent(
    fleet: Fleet, line: str, headers: list[str], body: str = "", until: asyncio.Event | None = None
) -> None:
    """A request in bytes, whose sender goes away when its answer begins, or at `until`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.server.port)
    writer.write("\r\n".join([f"{line} HTTP/1.1", "Host: x", *headers, "", body]).encode())
    await (reader.read(100) if until is None else until.wait())
    writer.transport.abort()


async def test_a_refused_registration_is_one_line_with_where_it_came_from(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mine, other = "the-secret-of-the-node-a", "the-secret-of-somebody"
    for more in ({}, {"requires_tokens": True, "anonymous": False}):
        caplog.clear()
        async with serving_snapshot(Each(), **more) as server, aiohttp.ClientSession(server.url) as tcp:
            status = (await tcp.post("/register", json=REGISTER, headers=bearer(mine))).status
            assert status == (401 if more else 202)
            for headers in ({}, bearer(other), bearer(other), {}):
                assert (await tcp.post("/register", json=REGISTER, headers=headers)).status in (401, 409)
        said = [
            record.getMessage().partition(";")[0]
            for record in caplog.records
            if "did not join" in record.getMessage()
        ]
        needs = "a did not join, from 127.0.0.1: a needs its node secret, as `Authorization: Bearer …`"
        token = "a did not join, from 127.0.0.1: a has not joined, and this server requires a join token (`Cfgsync-Join-Token`)"
        taken = "a did not join, from 127.0.0.1: a is already registered with another secret"
        assert said == ([token, needs] if more else [needs, taken])
        assert mine not in caplog.text
        assert other not in caplog.text
