"""The stream of a scope: hints, and events of the kinds whose documents changed, over real sockets."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from cfgsync_core import MemoryHints, MemoryStore, Unavailable
from cfgsync_core.server import Call
from cfgsync_documents import DocumentName
from cfgsync_documents.document import Scope
from cfgsync_documents.http import kind_stream
from cfgsync_documents.http.kind_stream import KindStreams, _event
from cfgsync_documents.service import Documents
from cfgsync_documents.service.scope_mirror import NO_STATE
from cfgsync_runtime.compose.document_server import serving_documents
from tests.documents.test_by_scope import ADMIN, answer, code_of, opened, put
from tests.documents.test_two_servers import LostHints, two

WATCH = "/v1/config/watch"
SCOPE = {"app": "lobby", "env": "prod"}
KINDS = {
    "tokens": {"ttl": 300, "documents": "tokens/*"},
    "ui": {"ttl": 120, "documents": ["ui/*", "shared/theme"], "max_stale": "flagged"},
}
BUSTED = "config.config.cache_busted.v1"


class Stream:
    """The events of one stream, as (event, data)."""

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self._lines = reply.content

    async def next(self) -> tuple[str, dict]:
        name = ""
        async with asyncio.timeout(30):
            while True:
                field, _, value = (await self._lines.readline()).decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    return name, json.loads(value)

    async def until_hint(self) -> list[tuple[str, str | None]]:
        """The events of one look: their names and kinds, the hint at the end left out."""
        found = []
        while (one := await self.next())[0] != "hint":
            found.append((one[0], one[1]["kind"]))
        return found


async def document(session, namespace, name, content="1"):
    return await put(session, content, f"{ADMIN}/namespaces/{namespace}/documents/{name}")


async def test_a_stream_expires_all_at_once_and_then_what_belongs_to_the_kind_of_each_change():
    async with opened() as session:
        await document(session, "cfgsync", "kinds", json.dumps(KINDS))
        async with session.get(WATCH, params=SCOPE) as reply:
            assert reply.headers["Content-Type"] == "text/event-stream"
            stream = Stream(reply)
            name, hello = await stream.next()
            assert (name, hello["kind"], hello["kinds"].keys()) == (BUSTED, None, KINDS.keys())
            assert await stream.next() == ("hint", {})
            version = await document(session, "tokens", "blue")
            name, data = await stream.next()
            assert (name, data["kind"]) == ("config.tokens.updated.v1", "tokens")
            assert data["version"].endswith(f".{version}")
            assert await stream.next() == ("hint", {})
            await document(session, "shared", "theme")
            assert await stream.until_hint() == [("config.ui.updated.v1", "ui")]
            await document(session, "shared", "other")
            assert await stream.until_hint() == []
            await session.delete(f"{ADMIN}/namespaces/tokens/documents/blue")
            assert await stream.until_hint() == [("config.tokens.updated.v1", "tokens")]
            status, _ = await answer(session, "POST", f"{ADMIN}/bust/ui")
            assert status == 200
            assert await stream.until_hint() == [(BUSTED, "ui")]
            await document(session, "cfgsync", "kinds", json.dumps({**KINDS, "new": {"ttl": 1}}))
            assert await stream.until_hint() == [(BUSTED, None)]


async def test_a_scope_hears_of_its_own_changes_only_and_of_its_first_document():
    async with opened() as session, session.get(WATCH, params=SCOPE) as reply:
        stream = Stream(reply)
        assert await stream.until_hint() == [(BUSTED, None)]
        await session.post("/api/v1/config/other", json={})
        await document(session, "cfgsync", "kinds", json.dumps(KINDS))
        assert await stream.until_hint() == [(BUSTED, None)]


async def test_an_unknown_kind_cannot_be_busted_and_a_wrong_scope_is_400():
    async with opened() as session:
        assert (await code_of(session, "POST", f"{ADMIN}/bust/nothing"))[:2] == (404, "not_found")
        assert (await code_of(session, "GET", f"{WATCH}?app=a.b"))[:2] == (400, "invalid_request")


def test_an_event_is_one_event_whatever_its_name_is():
    now = NO_STATE
    piece = _event("config.a\r\nevent: b\n\ndata: {}\u2028.updated.v1", Scope("a", "b"), "x\ny", now)
    name, data, *rest = piece.split(b"\n")
    assert name == b"event: config.aevent: bdata: {}.updated.v1"
    assert json.loads(data.removeprefix(b"data: "))["kind"] == "x\ny"
    assert rest == [b"", b""]


async def test_every_bust_is_a_version_of_its_own():
    async with opened() as session:
        await document(session, "cfgsync", "kinds", json.dumps(KINDS))
        versions = [(await answer(session, "POST", f"{ADMIN}/bust/ui"))[1]["version"] for _ in range(3)]
        assert versions == [2, 3, 4]


@pytest.mark.parametrize(("hints", "interval"), [(MemoryHints, 15.0), (LostHints, 0.2)])
async def test_a_write_and_a_bust_on_another_server_reach_the_stream(hints, interval):
    async with two(hints(), interval) as (one, other):
        await document(one, "cfgsync", "kinds", json.dumps(KINDS))
        async with other.get(WATCH, params=SCOPE) as reply:
            stream = Stream(reply)
            await stream.until_hint()
            await document(one, "tokens", "blue")
            assert await stream.until_hint() == [("config.tokens.updated.v1", "tokens")]
            await answer(one, "POST", f"{ADMIN}/bust/tokens")
            assert await stream.until_hint() == [(BUSTED, "tokens")]


async def test_a_dropped_bucket_expires_every_kind():
    store = MemoryStore()
    async with opened(store=store) as session:
        await document(session, "cfgsync", "kinds", json.dumps(KINDS))
        async with session.get(WATCH, params=SCOPE) as reply:
            stream = Stream(reply)
            await stream.until_hint()
            await store.drop("config/lobby/prod")
            await document(session, "tokens", "blue")
            assert await stream.until_hint() == [(BUSTED, None)]


async def test_a_stopping_server_ends_its_streams_and_one_too_many_is_503():
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        async with serving_documents(open_documents=True) as server:
            reply = await session.get(server.url + WATCH, params=SCOPE)
            await Stream(reply).until_hint()
        assert b"event" not in await reply.read()
    async with Documents(MemoryStore()) as documents:
        with pytest.raises(Unavailable, match="0 streams are open already"):
            await KindStreams(documents, at_most=0).watch(Call(query=SCOPE))


class Surprising(Documents):
    """Its states raise what nobody foresaw while `broken`."""

    broken = False

    async def state(self, scope):
        if self.broken:
            raise KeyError("a fault of ours")
        return await super().state(scope)


async def test_an_unforeseen_error_ends_no_stream_and_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(kind_stream, "RETRY_SECONDS", 0.01)
    async with Surprising(MemoryStore()) as documents:
        pieces = []

        async def write(piece):
            pieces.append(piece)

        streaming = asyncio.create_task(KindStreams(documents)._stream(Scope("lobby", "prod"), write))
        async with asyncio.timeout(30):
            while kind_stream.HINT not in b"".join(pieces):
                await asyncio.sleep(0.01)
            documents.broken, pieces[:] = True, []
            await documents.set(DocumentName(Scope("lobby", "prod"), "default", "limits"), b"1", "ana")
            while "the changes of lobby/prod cannot be told" not in caplog.text:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert not pieces
            documents.broken = False
            while kind_stream.HINT not in b"".join(pieces):
                await asyncio.sleep(0.01)
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)
    assert caplog.text.count("cannot be told") == 1


async def test_a_thousand_readers_of_one_scope_hear_of_one_change():
    async with Documents(MemoryStore()) as documents:
        streams = KindStreams(documents)
        scope = Scope(*SCOPE.values())
        heard: list[list[bytes]] = [[] for _ in range(1_000)]
        reply = await streams.watch(Call(query=SCOPE))

        async def read(pieces):
            async def write(piece):
                pieces.append(piece)

            await reply.stream(write)

        tasks = [asyncio.create_task(read(pieces)) for pieces in heard]
        async with asyncio.timeout(30):
            while not all(len(pieces) == 2 for pieces in heard):
                await asyncio.sleep(0.01)
            await documents.set(DocumentName(scope, "a", "b"), b"1", "ana")
            while not all(len(pieces) == 3 for pieces in heard):
                await asyncio.sleep(0.01)
        assert len(streams) == 1_000
        documents.drain()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
        assert len(streams) == 0
        assert {pieces[2] for pieces in heard} == {b"event: hint\ndata: {}\n\n"}
