"""Schemas and the validator: a write that does not hold is 422 by every way that writes, and writes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import aiohttp
import pytest

from cfgsync_core import MemoryHints, MemoryStore
from cfgsync_documents.document import DocumentName, Scope
from cfgsync_documents.errors import InvalidDocument
from cfgsync_documents.service import Documents, schema_problems, value_problems
from cfgsync_documents.service.rules import schema_name
from cfgsync_runtime.compose.document_server import serving_documents
from cfgsync_runtime.errors import InputError
from cfgsync_runtime.materializer import checking
from cfgsync_runtime.materializer.checking import ChildChecker
from tests.documents.test_by_scope import ADMIN, APP, ONE, answer, code_of, opened, put

SCHEMA = {
    "type": "object",
    "properties": {"players": {"type": "integer", "maximum": 100}},
    "required": ["players"],
}
BY_NAME = "/api/v1/config/limits?app=lobby&environment=prod&namespace=game"
NAME = DocumentName(Scope("lobby", "prod"), "game", "limits")
ELSE = f"{ADMIN}/namespaces/game/documents/else"


async def set_schema(session, schema, one=ONE):
    status, body = await answer(session, "PUT", f"{one}/schema", json=schema)
    assert status == 200, body
    return body["version"]


async def test_what_does_not_fit_its_schema_is_422_by_every_way_that_writes_and_nothing_is_written():
    async with opened() as session:
        await put(session, '{"players": "many"}')
        wrong = 1
        await put(session, '{"players": 5}')
        version = await set_schema(session, SCHEMA)
        tells = "Invalid document: game/limits at /players: 'x' is not of type 'integer'"
        content = {"contentJson": '{"players":"x"}'}
        row = {"namespace": "game", "configKey": "limits", **content}
        other = {"namespace": "game", "configKey": "other", "contentJson": "1"}
        for method, path, body in [
            ("PUT", ONE, content),
            ("POST", f"{ADMIN}/commit", {"writes": [other, row]}),
        ]:
            assert await code_of(session, method, path, json=body) == (422, "invalid_document", tells)
        rolled = await code_of(session, "POST", f"{ONE}/rollback", json={"toVersion": wrong})
        assert rolled[:2] == (422, "invalid_document")
        for method, members in [("POST", {"players": 101}), ("PATCH", {"players": None}), ("POST", {})]:
            async with session.request(method, BY_NAME, json=members) as reply:
                assert reply.status == 422
                assert "game/limits" in (await reply.json())["error"]
        assert (await answer(session, "GET", f"{APP}/snapshot"))[1]["version"] == version
        async with session.patch(BY_NAME, json={"more": 1}) as reply:
            assert reply.status == 200  # the merged document fits, and the patch alone would not
        await session.delete(ONE)
        default = {"namespace": "game", "configKey": "limits", "defaultContentJson": '{"players":101}'}
        fine = {**default, "configKey": "fine"}
        found = await code_of(session, "POST", f"{APP}/defaults", json={"defaults": [fine, default]})
        assert found[:2] == (422, "invalid_document")
        assert (await answer(session, "GET", f"{ADMIN}/documents?namespace=game"))[1] == {"documents": []}


async def test_a_schema_is_read_back_and_deleted_and_one_that_the_present_value_breaks_is_refused():
    async with opened() as session:
        await put(session, '{"players": 5}')
        assert (await code_of(session, "GET", f"{ONE}/schema"))[:2] == (404, "not_found")
        refused = await code_of(session, "PUT", f"{ONE}/schema", json={"required": ["x"]})
        assert refused == (
            422,
            "invalid_document",
            "Invalid document: game/limits: 'x' is a required property",
        )
        await set_schema(session, SCHEMA)
        assert (await answer(session, "GET", f"{ONE}/schema"))[1] == SCHEMA
        assert (await answer(session, "DELETE", f"{ONE}/schema"))[1]["deleted"]
        assert not (await answer(session, "DELETE", f"{ONE}/schema"))[1]["deleted"]
        await put(session, '"anything"')


async def test_a_schema_and_its_document_change_together_in_one_commit():
    async with opened() as session:
        await put(session, '{"players": 5}')
        await set_schema(session, SCHEMA)
        schema = {
            "namespace": "cfgsync",
            "configKey": "schema.game.limits",
            "contentJson": '{"type":"array"}',
        }
        value = {"namespace": "game", "configKey": "limits", "contentJson": "[]"}
        commit = f"{ADMIN}/commit"
        assert (await code_of(session, "POST", commit, json={"writes": [schema]}))[0] == 422
        assert (await code_of(session, "POST", commit, json={"writes": [value]}))[0] == 422
        assert (await answer(session, "POST", commit, json={"writes": [value, schema]}))[0] == 200


@pytest.mark.parametrize(
    ("schema", "detail"),
    [
        ({"type": "objct"}, "cfgsync/schema.game.else at /type: 'objct' is not valid"),
        ({"$ref": "http://x/y"}, "at /$ref: a reference must begin with #: nothing is fetched"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "at /properties/a/$ref: there is no #/$defs/b"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "at /$schema: a schema is of"),
    ],
)
async def test_what_is_no_schema_is_422(schema, detail):
    async with opened() as session:
        status, code, said = await code_of(session, "PUT", f"{ELSE}/schema", json=schema)
        assert (status, code) == (422, "invalid_document")
        assert detail in said


async def test_local_references_numbers_and_odd_schemas_work_as_the_standard_says():
    async with opened() as session:
        await set_schema(session, {"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}}, ELSE)
        await put(session, "[1.0, 9223372036854775808]", ELSE)
        assert (await code_of(session, "PUT", ELSE, json={"contentJson": "[1.5]"}))[0] == 422
        await set_schema(session, {"const": {"$ref": "http://x/y"}, "properties": {"$ref": True}}, ONE)
        assert (await code_of(session, "PUT", f"{ELSE}/schema", json={"$ref": "#"}))[
            0
        ] == 422  # without an end
        assert (await code_of(session, "PUT", f"{ELSE}/schema", json=[]))[:2] == (400, "invalid_request")


def test_a_schema_that_leads_back_to_itself_without_an_end_is_refused_and_a_recursive_one_is_not():
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    tree = {"$ref": "#/$defs/tree", "$defs": {"tree": {"additionalProperties": {"$ref": "#/$defs/tree"}}}}
    shared = {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "object"}}}
    for fine in (node, tree, shared):
        assert schema_problems(json.dumps(fine).encode()) == []
        assert value_problems(json.dumps(fine).encode(), b"{}") == []
    ping = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}}
    for endless in ({"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, {"if": {"not": {"$ref": "#"}}}, ping):
        [(_, words)] = schema_problems(json.dumps(endless).encode())
        assert "leads back to itself without an end" in words
    chain = {"$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(5_000)} | {"a5000": {}}}
    assert "too many steps" in schema_problems(json.dumps(chain).encode())[0][1]


async def test_kinds_that_are_none_are_422_with_their_place():
    kinds = f"{ADMIN}/namespaces/cfgsync/documents/kinds"
    async with opened() as session:
        body = {"contentJson": '{"a":{"ttl":0}}'}
        assert await code_of(session, "PUT", kinds, json=body) == (
            422,
            "invalid_document",
            "Invalid document: cfgsync/kinds at /*/ttl: Expected `float` > 0.0",
        )
        for name in ("a\n", "a\r\nevent: hint", "ui.b", "x" * 101, ""):
            body = {"contentJson": json.dumps({name: {"ttl": 1}})}
            status, code, detail = await code_of(session, "PUT", kinds, json=body)
            assert (status, code) == (422, "invalid_document"), name
            assert "matching regex" in detail
        await put(session, json.dumps({"x" * 100: {"ttl": 1}}), kinds)


async def test_no_write_slips_in_while_a_schema_is_set_on_another_server():
    """Of a schema and a value that do not fit each other, exactly one is written."""
    store = MemoryStore()
    serving = {"store": store, "hints": MemoryHints(), "open_documents": True}
    async with (
        serving_documents(**serving) as one,
        serving_documents(**serving) as other,
        aiohttp.ClientSession(one.url) as first,
        aiohttp.ClientSession(other.url) as second,
    ):
        for number in range(8):
            path = f"{ADMIN}/namespaces/game/documents/d{number}"
            done = await asyncio.gather(
                answer(first, "PUT", f"{path}/schema", json={"type": "object"}),
                answer(second, "PUT", path, json={"contentJson": "1"}),
            )
            assert sorted(status for status, _ in done) == [200, 422]


async def test_without_a_checker_a_document_with_a_schema_is_not_written():
    store = MemoryStore()
    async with ChildChecker() as checker, Documents(store, checker=checker) as documents:
        await documents.set(schema_name(NAME), b'{"type":"object"}', "ana")
        with pytest.raises(InvalidDocument):
            await documents.set(NAME, b"1", "ana")
    async with Documents(store) as documents:
        with pytest.raises(Exception, match="cannot check documents against a schema"):
            await documents.set(NAME, b"{}", "ana")


# ── the validator ────────────────────────────────────────────────────────────────────────────────────────────────────

JUDGE = """
import os, time

class Judge:
    def validate(self, scope, before, after):
        for name, value in after.items():
            match value:
                case {"sleep": seconds}:
                    time.sleep(seconds)
                case {"raise": words}:
                    raise RuntimeError(words)
                case {"exit": code}:
                    os._exit(code)
                case {"say": words}:
                    return words
                case {"yield": words}:
                    return (one for one in words)
        old = {name: before[name] for name in after}
        if any(value is None and old[name] for name, value in after.items()):
            return [f"{scope}: nothing is ever deleted"]
        return []
"""


@pytest.fixture
def judge(tmp_path, monkeypatch):
    (tmp_path / "judge_app.py").write_text(JUDGE)
    monkeypatch.chdir(tmp_path)
    return "judge_app:Judge"


async def test_a_validator_sees_before_and_after_and_what_it_says_is_422(judge):
    async with opened(checker=ChildChecker(judge)) as session:
        await put(session, '{"x": 1}')
        assert await code_of(session, "DELETE", ONE) == (
            422,
            "invalid_document",
            "Invalid document: lobby/prod: nothing is ever deleted",
        )
        assert (await answer(session, "GET", ONE.replace("/admin", "")))[0] == 200


async def test_a_validator_that_fails_dies_or_hangs_permits_nothing_and_the_next_write_is_judged(
    judge, monkeypatch, caplog
):
    monkeypatch.setattr(checking, "ANSWER_WITHIN", 0.5)
    async with opened(checker=ChildChecker(judge)) as session:
        for content, why in [
            ('{"raise": "secret words"}', "The validator failed: RuntimeError in "),
            ('{"say": "no list"}', "The validator failed: TypeError"),
            ('{"say": {"x": 1}}', "The validator failed: TypeError"),
            ('{"yield": ["no"]}', "The validator failed: TypeError"),
            ('{"exit": 3}', "Documents could not be checked: the process ended with exit code 3"),
            ('{"sleep": 30}', "Documents could not be checked within 0.5 s"),
        ]:
            status, code, detail = await code_of(session, "PUT", ONE, json={"contentJson": content})
            assert (status, code) == (503, "unavailable")
            assert detail.startswith(why)
            assert "secret words" not in detail
            await put_in_the_end(session, f'"{code} {content[2:5]}"')
    assert "secret words" in caplog.text


async def put_in_the_end(session, content, path=ONE):
    """The process may be new, and a check does not wait for it longer than for an answer."""
    async with asyncio.timeout(60):
        while (await answer(session, "PUT", path, json={"contentJson": content}))[0] == 503:
            await asyncio.sleep(0.05)


async def test_a_check_that_hangs_keeps_no_other_scope_waiting_and_only_its_own_write_is_blamed(
    judge, monkeypatch
):
    monkeypatch.setattr(checking, "ANSWER_WITHIN", 60.0)
    monkeypatch.setattr(checking, "SHARED_WITHIN", 0.2)
    other = ONE.replace("lobby", "elsewhere")
    async with opened(checker=ChildChecker(judge)) as session:
        body = {"contentJson": '{"sleep": 600}'}
        hanging = [asyncio.create_task(code_of(session, "PUT", ONE, json=body)) for _ in range(3)]
        await asyncio.sleep(0.3)
        for number in range(3):  # one of the hanging checks is before each of these
            await put(session, f"{number}", other)
        first = await hanging[0]
        for more in hanging[1:]:
            more.cancel()
        assert first[:2] == (503, "unavailable")
        assert first[2].startswith("Documents could not be checked within ")


async def test_a_write_waits_for_other_checks_no_longer_than_for_its_own_and_is_not_blamed(
    judge, monkeypatch
):
    async with opened(checker=ChildChecker(judge)) as session:
        body = {"contentJson": '{"sleep": 600}'}
        hanging = asyncio.create_task(code_of(session, "PUT", ONE, json=body))
        await asyncio.sleep(0.5)
        monkeypatch.setattr(checking, "ANSWER_WITHIN", 0.2)
        status, code, detail = await code_of(session, "PUT", ONE, json={"contentJson": "1"})
        assert (status, code) == (503, "unavailable")
        assert detail.startswith("Documents could not be checked yet: other checks")
        monkeypatch.setattr(checking, "ANSWER_WITHIN", 60.0)
        assert (await hanging)[2].startswith("Documents could not be checked within ")
        await put(session, "1")


async def test_a_validator_that_was_killed_is_replaced(judge):
    async with opened(checker=(checker := ChildChecker(judge))) as session:
        await put(session, "1")
        os.kill(checker._process._process.pid, signal.SIGKILL)
        statuses = [(await answer(session, "PUT", ONE, json={"contentJson": f"{n}"}))[0] for n in (2, 3)]
        assert statuses in ([503, 200], [200, 200])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("judge_app:Nothing", "there is no Nothing in judge_app"),
        ("judge_app:os", "which has no method validate"),
        ("nowhere:Judge", "no module named nowhere"),
    ],
)
async def test_a_validator_that_cannot_be_loaded_stops_the_start(judge, target, words):
    with pytest.raises(InputError, match=words):
        async with opened(checker=ChildChecker(target)):
            pass
