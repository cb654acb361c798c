"""Surface two over real sockets: snapshots, defaults, writes with versions, history, errors as problems."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from cfgsync_core import MemoryStore
from cfgsync_runtime.compose.document_server import serving_documents

APP = "/v1/config/apps/lobby/envs/prod"
ADMIN = "/v1/config/admin/apps/lobby/envs/prod"
ONE = f"{ADMIN}/namespaces/game/documents/limits"
NEW = {"namespace": "game", "configKey": "new", "contentJson": "2"}


@asynccontextmanager
async def opened(**more) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serving_documents(open_documents=True, **more) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        yield session


async def answer(session: aiohttp.ClientSession, method: str, path: str, **more) -> tuple[int, object]:
    async with session.request(method, path, **more) as reply:
        if reply.status >= 400:
            assert reply.content_type == "application/problem+json"
        return reply.status, json.loads(await reply.read() or b"null")


async def code_of(session: aiohttp.ClientSession, method: str, path: str, **more) -> tuple[int, str, str]:
    status, problem = await answer(session, method, path, **more)
    assert set(problem) == {"title", "status", "detail", "code"}
    assert problem["status"] == status
    return status, problem["code"], problem["detail"]


async def put(session: aiohttp.ClientSession, content: str, path: str = ONE, **more) -> int:
    status, body = await answer(session, "PUT", path, json={"contentJson": content, **more})
    assert status == 200, body
    return body["version"]


async def test_a_snapshot_has_every_document_in_order_and_is_304_for_its_own_tag():
    async with opened() as session:
        status, empty = await answer(session, "GET", f"{APP}/snapshot")
        assert (status, empty) == (200, {"version": 0, "documents": []})
        await put(session, '{ "players": 50.0 }')
        await put(session, "[]", f"{ADMIN}/namespaces/a/documents/z")
        await put(session, "1", f"{ADMIN}/namespaces/a-b/documents/y")
        reply = await session.get(f"{APP}/snapshot")
        assert await reply.json() == {
            "version": 3,
            "documents": [
                {"namespace": "a", "configKey": "z", "contentJson": "[]", "version": 2},
                {"namespace": "a-b", "configKey": "y", "contentJson": "1", "version": 3},
                {"namespace": "game", "configKey": "limits", "contentJson": '{"players":50.0}', "version": 1},
            ],
        }
        tag = reply.headers["ETag"]
        epoch = tag.strip('"').rpartition(".")[0]
        for known in ("3", '"3"', "*x", f'"{epoch}.2"', f'"{epoch}.4"', '"other.3"', 'W/"3"', '""'):
            reply = await session.get(f"{APP}/snapshot", headers={"If-None-Match": known})
            assert reply.status == 200, known
        reply = await session.get(f"{APP}/snapshot", headers={"If-None-Match": tag})
        assert (reply.status, await reply.read(), reply.headers["ETag"]) == (304, b"", tag)
        status, part = await answer(session, "GET", f"{APP}/namespaces/a/snapshot")
        assert (part["version"], [one["configKey"] for one in part["documents"]]) == (3, ["z"])
        found = await answer(session, "GET", f"{APP}/namespaces/game/documents/limits")
        assert found[1]["contentJson"] == '{"players":50.0}'
        assert (await code_of(session, "GET", f"{APP}/namespaces/game/documents/absent")) == (
            404,
            "not_found",
            "Config document not found (app=lobby, env=prod, namespace=game, configKey=absent)",
        )


async def test_a_held_snapshot_answers_at_the_next_change_of_the_scope_also_its_first():
    async with opened() as session:
        for content in ("1", "2"):
            tag = (await session.get(f"{APP}/snapshot")).headers["ETag"]
            headers = {"If-None-Match": tag, "Prefer": "wait=30"}
            held = asyncio.create_task(session.get(f"{APP}/snapshot", headers=headers))
            await asyncio.sleep(0)
            await put(session, content)
            reply = await held
            assert (await reply.json())["documents"][0]["contentJson"] == content


async def test_defaults_create_what_is_missing_in_one_commit_and_overwrite_nothing():
    def default(key: str, content: str) -> dict[str, str]:
        return {"namespace": "game", "configKey": key, "defaultContentJson": content}

    async with opened() as session:
        await put(session, "1")
        both = {"defaults": [default("limits", "9"), default("b", '{"x": 1}'), default("c", "3")]}
        status, made = await answer(session, "POST", f"{APP}/defaults", json=both)
        created = [{"namespace": "game", "configKey": key} for key in "bc"]
        assert (status, made) == (200, {"version": 2, "createdKeys": created})
        assert await answer(session, "POST", f"{APP}/defaults", json=both) == (
            200,
            {"version": 2, "createdKeys": []},
        )
        assert await answer(session, "POST", f"{APP}/defaults", json={"defaults": []}) == (
            200,
            {"version": 2, "createdKeys": []},
        )
        _, found = await answer(session, "GET", f"{APP}/snapshot")
        assert [one["contentJson"] for one in found["documents"]] == ['{"x":1}', "3", "1"]
        ten = {"defaults": [default(f"d{n}", "1" if n != 7 else "{") for n in range(10)]}
        status, code, detail = await code_of(session, "POST", f"{APP}/defaults", json=ten)
        assert (status, code) == (400, "invalid_request")
        assert detail.startswith("defaultContentJson must be valid JSON")
        assert (await answer(session, "GET", f"{APP}/snapshot"))[1] == found


async def test_one_invalid_default_in_ten_is_400_and_none_of_the_ten_exists():
    defaults = [{"namespace": "a", "configKey": f"k{n}", "defaultContentJson": "1"} for n in range(10)]
    defaults[7]["defaultContentJson"] = "{,}"
    async with opened() as session:
        found = await code_of(session, "POST", f"{APP}/defaults", json={"defaults": defaults})
        assert found[:2] == (400, "invalid_request")
        assert (await answer(session, "GET", f"{APP}/snapshot"))[1] == {"version": 0, "documents": []}


DEFAULT = {"namespace": "a", "configKey": "k", "defaultContentJson": "1"}


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("PUT", ONE, {"headers": {"If-Match": "1"}}),
        ("PUT", ONE, {"headers": {"If-None-Match": "*"}}),
        ("PUT", f"{ONE}?expectedVersion=9", {}),
        ("POST", f"{ADMIN}/commit?expectedVersion=9", {}),
        ("POST", f"{ADMIN}/documents", {"json": {**NEW, "expectedVersion": 9}}),
        ("DELETE", ONE, {"headers": {"If-Match": "9"}}),
        ("DELETE", ONE, {"json": {"expectedVersion": 9}}),
        ("DELETE", f"{ONE}/schema?expectedVersion=9", {}),
        ("POST", f"{APP}/defaults", {"json": {"defaults": [{**DEFAULT, "expectedVersion": 9}]}}),
    ],
)
async def test_a_precondition_in_the_wrong_place_is_400_and_nothing_is_written(method, path, more):
    bodies = {
        "PUT": {"contentJson": "2"},
        "POST": {"writes": [{"namespace": "game", "configKey": "limits", "contentJson": "2"}]},
    }
    if method in bodies:
        more = {"json": bodies[method], **more}
    async with opened() as session:
        await put(session, "1")
        status, code, detail = await code_of(session, method, path, **more)
        assert (status, code) == (400, "invalid_request")
        assert "expectedVersion" in detail
        assert (await answer(session, "GET", f"{APP}/snapshot"))[1]["version"] == 1


async def test_defaults_create_nothing_in_the_namespace_of_cfgsync_and_an_operator_does():
    row = {"namespace": "cfgsync", "configKey": "kinds", "defaultContentJson": "{}"}
    other = {"namespace": "a", "configKey": "k", "defaultContentJson": "1"}
    async with opened() as session:
        found = await code_of(session, "POST", f"{APP}/defaults", json={"defaults": [other, row]})
        assert found == (
            400,
            "invalid_request",
            "namespace must not be cfgsync: a default is never created there",
        )
        assert (await answer(session, "GET", f"{APP}/snapshot"))[1] == {"version": 0, "documents": []}
        await put(session, "{}", f"{ADMIN}/namespaces/cfgsync/documents/kinds")


async def test_programs_that_name_the_same_new_keys_in_opposite_order_make_one_value_each():
    def defaults(keys: str, by: int) -> dict[str, object]:
        return {"defaults": [{"namespace": "g", "configKey": k, "defaultContentJson": f"{by}"} for k in keys]}

    async with opened() as session:
        made = await asyncio.gather(
            *(
                answer(session, "POST", f"{APP}/defaults", json=defaults("ab" if n % 2 else "ba", n))
                for n in range(20)
            )
        )
        assert {status for status, _ in made} == {200}
        keys = [one["configKey"] for _, body in made for one in body["createdKeys"]]
        assert sorted(keys) == ["a", "b"]
        assert {body["version"] for _, body in made} == {1}


async def test_a_write_answers_the_scope_s_version_and_is_checked_against_the_document_s():
    async with opened() as session:
        await put(session, "0", f"{ADMIN}/namespaces/game/documents/other")
        assert await put(session, "1") == 2
        assert await put(session, "2", expectedVersion=2) == 3
        at = "app=lobby, env=prod, namespace=game, configKey=limits"
        assert await code_of(session, "PUT", ONE, json={"contentJson": "3", "expectedVersion": 2}) == (
            409,
            "version_conflict",
            f"Config document version mismatch ({at}, expectedVersion=2, currentVersion=3)",
        )
        new = {"namespace": "game", "configKey": "limits", "contentJson": "3"}
        assert await code_of(session, "POST", f"{ADMIN}/documents", json=new) == (
            409,
            "already_exists",
            f"Config document already exists ({at}, currentVersion=3)",
        )
        assert (await code_of(session, "DELETE", f"{ONE}?expectedVersion=2"))[:2] == (409, "version_conflict")
        for nothing in ("", "0"):  # such as a variable of a shell that is not set
            assert (await code_of(session, "DELETE", f"{ONE}?expectedVersion={nothing}"))[0] == 400
        assert await answer(session, "DELETE", f"{ONE}?expectedVersion=3") == (
            200,
            {"deleted": True, "version": 4},
        )
        assert await answer(session, "DELETE", ONE) == (200, {"deleted": False, "version": 4})
        gone = await code_of(session, "PUT", ONE, json={"contentJson": "3", "expectedVersion": 3})
        assert gone == (404, "not_found", f"Config document not found ({at}, expectedVersion=3)")
        assert await answer(session, "POST", f"{ADMIN}/documents", json=new) == (200, {"version": 5})
        assert await put(session, "3") == 5  # equal


async def test_several_writes_are_one_version_or_none():
    async with opened() as session:
        await put(session, "1")

        def write(key: str, content: str | None, **more: int) -> dict[str, object]:
            return {"namespace": "game", "configKey": key, "contentJson": content, **more}

        both = [write("limits", None, expectedVersion=1), write("b", "2", expectedVersion=0), write("c", "3")]
        refused = [*both, write("d", "4", expectedVersion=9)]
        assert (await code_of(session, "POST", f"{ADMIN}/commit", json={"writes": refused}))[0] == 404
        assert await answer(session, "POST", f"{ADMIN}/commit", json={"writes": both}) == (
            200,
            {"version": 2},
        )
        _, found = await answer(session, "GET", f"{ADMIN}/documents?namespace=game")
        assert [(one["configKey"], one["version"]) for one in found["documents"]] == [("b", 2), ("c", 2)]
        twice = {"writes": [write("x", "1"), write("x", "2")]}
        assert (await code_of(session, "POST", f"{ADMIN}/commit", json=twice))[0] == 400
        assert (await answer(session, "GET", f"{ADMIN}/documents?namespace=none"))[1] == {"documents": []}


async def test_history_is_newest_first_and_a_rollback_is_a_new_version():
    async with opened() as session:
        for content in ("1", "2"):
            await put(session, content)
        await session.delete(ONE)
        assert await answer(session, "POST", f"{ONE}/rollback", json={"toVersion": 1}) == (
            200,
            {"version": 4},
        )
        _, found = await answer(session, "GET", f"{ONE}/history")
        assert [(one["version"], one["contentJson"], one["updatedBy"]) for one in found["entries"]] == [
            (4, "1", "anyone"),
            (3, None, "anyone"),
            (2, "2", "anyone"),
            (1, "1", "anyone"),
        ]
        assert all(one["updatedAt"].endswith("Z") for one in found["entries"])
        _, found = await answer(session, "GET", f"{ONE}/history?limit=1")
        assert [one["version"] for one in found["entries"]] == [4]
        assert (await code_of(session, "POST", f"{ONE}/rollback", json={"toVersion": 9}))[:2] == (
            404,
            "not_found",
        )


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("PUT", ONE, {"contentJson": "{"}, "contentJson must be valid JSON"),
        ("PUT", ONE, {"contentJson": ""}, "contentJson must be valid JSON"),
        ("PUT", ONE, {"contentJson": "1 2"}, "contentJson must be valid JSON"),
        ("PUT", ONE, {}, "contentJson: missing"),
        ("PUT", ONE, {"contentJson": "1", "expectedVersion": 0}, "expectedVersion must be greater than 0"),
        ("PUT", ONE.replace("game", "g.h"), {"contentJson": "1"}, "namespace must match"),
        ("PUT", ONE.replace("lobby", "%20"), {"contentJson": "1"}, "app must not be blank"),
        ("PUT", ONE.replace("prod", "a%20b"), {"contentJson": "1"}, "env must match"),
        ("POST", f"{APP}/defaults", {}, "defaults: missing"),
        ("DELETE", f"{ONE}?expectedVersion=x", None, "expectedVersion must be greater than 0"),
        ("GET", f"{APP}/namespaces/a.b/snapshot", None, "namespace must match"),
    ],
)
async def test_a_wrong_call_is_400_with_its_detail_and_writes_nothing(method, path, body, detail):
    store = MemoryStore()
    async with opened(store=store) as session:
        more = {} if body is None else {"json": body}
        status, code, said = await code_of(session, method, path, **more)
        assert (status, code) == (400, "invalid_request")
        assert said.startswith(detail), said
        assert await store.buckets() == []


async def test_without_a_right_every_route_is_401_before_404():
    calls = [
        ("GET", f"{APP}/snapshot"),
        ("GET", f"{APP}/namespaces/n/snapshot"),
        ("GET", f"{APP}/namespaces/n/documents/k"),
        ("POST", f"{APP}/defaults"),
        ("GET", f"{ADMIN}/documents"),
        ("POST", f"{ADMIN}/documents"),
        ("PUT", ONE),
        ("DELETE", ONE),
        ("POST", f"{ADMIN}/commit"),
        ("GET", f"{ONE}/history"),
        ("POST", f"{ONE}/rollback"),
    ]
    async with serving_documents() as server, aiohttp.ClientSession(server.url) as session:
        for method, path in calls:
            more = {"json": {}} if method in ("POST", "PUT") else {}
            assert (await code_of(session, method, path, **more))[:2] == (401, "unauthenticated"), path


async def test_both_surfaces_are_described_and_show_the_same_documents():
    async with opened() as session:
        await put(session, '{"a":1.0}', f"{ADMIN}/namespaces/default/documents/theme")
        reply = await session.get("/api/v1/config/theme?app=lobby&environment=prod")
        assert b'"data":{"a":1.0}' in await reply.read()
        described = await (await session.get("/openapi.json")).json()
        assert len([path for path in described["paths"] if "config" in path]) == 14
