"""The copy of documents in JetStream KV, as another NATS client reads it: it equals the store, whatever somebody does to it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from hashlib import sha256

import aiohttp
import nats as client_of
import nats.js.errors as failures
import pytest
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig

from cfgsync_core import NEVER, Backend, MemoryHints, MemoryStore, StoreRefused, Version
from cfgsync_core.store import StoreCounts, epoch_ms, mint_epoch, uuid7
from cfgsync_documents import DocumentName, Scope
from cfgsync_documents.service import Documents, ScopeSnapshot
from cfgsync_runtime.backends.nats import projecting
from cfgsync_runtime.backends.nats.kv_bucket import Held, Put, plan
from cfgsync_runtime.compose.document_server import serving_documents
from tests.documents.test_by_name import ROOT
from tests.nats import Nats
from tests.nats import nats as nats

SELDOM = 3600.0
BUCKET = "SYS_config_default"


async def until(holds: Callable[[], Awaitable[bool]], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not await holds():
            await asyncio.sleep(
                0.05
            )  # each `read` leaves a consumer for a while, of which NATS has a thousand


async def read(stream: JetStreamContext) -> dict[str, object] | None:
    """What a NATS client finds, None without the bucket."""
    try:
        bucket = await stream.key_value(BUCKET)
    except failures.NotFoundError:
        return None
    try:
        keys = await bucket.keys()
    except failures.NoKeysError:
        return {}
    found = {}
    for key in keys:
        try:
            found[key] = json.loads((await bucket.get(key)).value)
        except failures.KeyNotFoundError:  # it was deleted meanwhile
            continue
    return found


class Copied:
    """Servers of one store that project to one NATS, and a client of that."""

    def __init__(self, nats: Nats, interval: float = SELDOM) -> None:
        self._nats = nats
        self._interval = interval
        self.store = MemoryStore()
        self._hints = MemoryHints()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Copied:
        bus = await client_of.connect(self._nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0)
        self._stack.push_async_callback(bus.close)
        self.stream = bus.jetstream()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def server(self, url: str = "") -> aiohttp.ClientSession:
        backend = Backend(self.store, self.store, self._hints)
        serving = serving_documents(
            store=backend,
            hints=url or self._nats.url,
            project_kv=True,
            interval=self._interval,
            open_documents=True,
        )
        server = await self._stack.enter_async_context(serving)
        return await self._stack.enter_async_context(aiohttp.ClientSession(server.url))

    async def becomes(self, wanted: dict[str, object]) -> None:
        async def holds() -> bool:
            return await read(self.stream) == wanted

        await until(holds)


async def test_documents_stand_in_the_bucket_with_revision_and_epoch_and_a_delete_is_a_marker(
    nats: Nats,
) -> None:
    async with Copied(nats) as copied:
        session = await copied.server()
        assert await read(copied.stream) is None
        await session.post(f"{ROOT}/a.b", json={"x": 1})
        await session.post(f"{ROOT}/c", json={"y": 2})
        await session.post("/api/v1/config/other", json={"z": 3}, params={"environment": "live"})
        await copied.becomes({"a.b": {"x": 1}, "c": {"y": 2}})
        etag = (await session.get(f"{ROOT}/a.b")).headers["ETag"].strip('"')
        message = await copied.stream.get_last_msg(f"KV_{BUCKET}", f"$KV.{BUCKET}.a.b")
        assert etag == f"{message.headers['Cfgsync-Epoch']}.{message.headers['Cfgsync-Revision']}"
        await session.delete(f"{ROOT}/a.b")
        await copied.becomes({"c": {"y": 2}})
        marker = await copied.stream.get_last_msg(f"KV_{BUCKET}", f"$KV.{BUCKET}.a.b")
        assert (marker.headers["KV-Operation"], marker.headers["Cfgsync-Revision"]) == ("DEL", "3")
        await session.post(f"{ROOT}/a.b", json={"x": 4})
        await copied.becomes({"a.b": {"x": 4}, "c": {"y": 2}})
        live = await copied.stream.key_value("SYS_config_live")
        assert json.loads((await live.get("other")).value) == {"z": 3}


async def test_a_bucket_that_somebody_deletes_is_made_and_filled_again_at_the_next_write(nats: Nats) -> None:
    async with Copied(nats) as copied:
        session = await copied.server()
        await session.post(f"{ROOT}/a", json={"x": 1})
        await copied.becomes({"a": {"x": 1}})
        await copied.stream.delete_key_value(BUCKET)
        await session.post(f"{ROOT}/b", json={"x": 2})
        await copied.becomes({"a": {"x": 1}, "b": {"x": 2}})
        bucket = await copied.stream.key_value(BUCKET)
        await bucket.put("b", b'"by hand"')  # in the way of the next write
        await session.post(f"{ROOT}/b", json={"x": 3})
        await copied.becomes({"a": {"x": 1}, "b": {"x": 3}})


async def test_what_somebody_does_to_the_bucket_is_mended_within_one_interval(nats: Nats) -> None:
    async with Copied(nats, interval=0.5) as copied:
        session = await copied.server()
        wanted = {f"d{number}": {"x": number} for number in range(20)}
        for name, value in wanted.items():
            await session.post(f"{ROOT}/{name}", json=value)
        await copied.becomes(wanted)
        bucket = await copied.stream.key_value(BUCKET)
        await bucket.purge("d1")
        await bucket.delete("d2")
        await bucket.put("d3", b"3")
        await bucket.put("stranger", b"3")
        await copied.becomes(wanted)
        await copied.stream.delete_key_value(BUCKET)
        await copied.becomes(wanted)


async def test_two_servers_and_a_nats_that_is_killed_leave_the_bucket_equal_to_the_store(nats: Nats) -> None:
    async with Copied(nats, interval=0.5) as copied:
        sessions = [await copied.server() for _ in range(2)]

        async def write(number: int) -> None:
            async with sessions[number % 2].post(f"{ROOT}/d{number % 7}", json={"x": number}) as reply:
                assert reply.status == 200

        await asyncio.gather(*map(write, range(100)))
        nats.kill()
        await asyncio.gather(*map(write, range(100, 200)))
        nats.start()
        await asyncio.gather(*map(write, range(200, 230)))
        names = [one["name"] for one in (await (await sessions[0].get(ROOT)).json())["configs"]]
        wanted = {name: (await (await sessions[1].get(f"{ROOT}/{name}")).json())["data"] for name in names}
        assert len(wanted) == 7
        await copied.becomes(wanted)


def raw(name: str, headers: bytes, value: bytes = b"1", bucket: str = BUCKET) -> bytes:
    """The line of NATS's protocol that puts this."""
    size = len(headers)
    return b"HPUB $KV.%b.%b %d %d\r\n%b%b\r\n" % (
        *(bucket.encode(), name.encode(), size, size + len(value), headers, value),
    )


FORGED = {
    "a revision of 5,000 digits": ("9" * 5_000, ""),
    "a digit that is none": ("²", ""),
    "a revision that is later than the store's": ("99999999", ""),
    "words": ("banana", "zz"),
    "a later epoch": ("1", "7ffff000-0000-7fff-bfff-ffffffffffff"),
    "an epoch that is too late for any": ("1", "ffffffff-ffff-7fff-bfff-ffffffffffff"),
    "an epoch of two lines": ("1", "a.b.c"),
}


@pytest.mark.parametrize(("revision", "epoch"), FORGED.values(), ids=FORGED.keys())
async def test_what_no_server_can_have_put_is_mended_and_ends_no_copy(
    nats: Nats, revision: str, epoch: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Copied(nats, interval=0.5) as copied:
        session = await copied.server()
        await session.post(f"{ROOT}/a", json={"x": 1})
        await session.post(f"{ROOT}/b", json={"x": 1})
        await copied.becomes({"a": {"x": 1}, "b": {"x": 1}})
        message = await copied.stream.get_last_msg(f"KV_{BUCKET}", f"$KV.{BUCKET}.a")
        headers = {
            "Cfgsync-Revision": revision,
            "Cfgsync-Epoch": epoch or message.headers["Cfgsync-Epoch"],
        }
        for name in ("a", "stranger"):
            await copied.stream.publish(f"$KV.{BUCKET}.{name}", b'{"evil": 1}', headers=headers)
        await copied.becomes({"a": {"x": 1}, "b": {"x": 1}})
        await copied.stream.publish(f"$KV.{BUCKET}.b", b'{"evil": 2}', headers=headers)
        await session.post(f"{ROOT}/b", json={"x": 2})  # it is in the way of this one
        await copied.becomes({"a": {"x": 1}, "b": {"x": 2}})
        marker = {**headers, "KV-Operation": "DEL"}
        await copied.stream.publish(f"$KV.{BUCKET}.b", b"", headers=marker)
        await copied.becomes({"a": {"x": 1}, "b": {"x": 2}})
        await session.post("/api/v1/config/other", json={"z": 3}, params={"environment": "fresh"})
        await until(lambda: has(copied.stream, "SYS_config_fresh"))
    said = [one.message for one in caplog.records if "somebody else writes" in one.message]
    assert said
    assert "give each fleet on this NATS an account of its own" in said[0]


async def has(stream: JetStreamContext, bucket: str) -> bool:
    try:
        await stream.key_value(bucket)
    except failures.NotFoundError:
        return False
    return True


@pytest.mark.parametrize(
    "headers",
    [
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\nCfgsync-Revision: \xff\xfe\r\n\xff: 1\r\n\r\n",
        b"NATS/1.0 \xff\xff\xff\r\n\r\n",
        b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("value", [b"1", b""])
async def test_headers_that_are_none_are_mended(nats: Nats, headers: bytes, value: bytes) -> None:
    async with Copied(nats, interval=0.5) as copied:
        session = await copied.server()
        await session.post(f"{ROOT}/a", json={"x": 1})
        await copied.becomes({"a": {"x": 1}})
        nats.send_raw(raw("a", headers, value), raw("stranger", headers, value))
        await until(lambda: is_mended(copied.stream, 2))


async def is_mended(stream: JetStreamContext, since: int) -> bool:
    """Whether a server has put the document again; asked for without reading the headers of what is there."""
    info = await stream.stream_info(f"KV_{BUCKET}", subjects_filter=">")
    return info.state.last_seq > since + 1 and await read(stream) == {"a": {"x": 1}}


async def test_two_fleets_on_one_nats_are_both_told_and_the_one_that_stays_has_its_documents(
    nats: Nats, caplog: pytest.LogCaptureFixture
) -> None:
    async with Copied(nats, interval=0.5) as one:
        session = await one.server()
        await session.post(f"{ROOT}/limits", json={"fleet": 1})
        async with Copied(nats, interval=0.5) as two:
            other = await two.server()
            await other.post(f"{ROOT}/limits", json={"fleet": 2})
            await until(lambda: said(caplog, 2))
        await one.becomes({"limits": {"fleet": 1}})
        await session.post(f"{ROOT}/limits", json={"fleet": 3})
        await one.becomes({"limits": {"fleet": 3}})


async def said(caplog: pytest.LogCaptureFixture, times: int) -> bool:
    return sum("somebody else writes" in one.message for one in caplog.records) >= times


class FaultyStore(MemoryStore):
    """Fails in a way that nobody has foreseen."""

    is_faulty = False

    async def version(self, bucket: str) -> Version:
        if self.is_faulty and bucket == "config/default/default":
            raise ZeroDivisionError("unforeseen")
        return await super().version(bucket)


async def test_an_unforeseen_error_is_logged_and_shown_and_the_copy_goes_on(
    nats: Nats, caplog: pytest.LogCaptureFixture
) -> None:
    async with Copied(nats, interval=0.5) as copied:
        copied.store = FaultyStore()
        session = await copied.server()
        await session.post(f"{ROOT}/a", json={"x": 1})
        await copied.becomes({"a": {"x": 1}})
        copied.store.is_faulty = True
        await until(lambda: behind(session, 1))
        [line] = [one for one in caplog.records if "is not complete: unforeseen" in one.message]
        assert line.levelname == "ERROR"
        assert line.exc_info
        await session.post("/api/v1/config/other", json={"z": 3}, params={"environment": "live"})
        await until(lambda: has(copied.stream, "SYS_config_live"))
        copied.store.is_faulty = False
        await copied.stream.delete_key_value(BUCKET)
        await copied.becomes({"a": {"x": 1}})
        await until(lambda: behind(session, 0))


async def behind(session: aiohttp.ClientSession, many: int) -> bool:
    text = await (await session.get("/metrics")).text()
    return f"cfgsync_kv_copies_behind {many}.0" in text


async def test_a_document_that_nats_does_not_take_keeps_no_other_out(
    nats: Nats, caplog: pytest.LogCaptureFixture
) -> None:
    nats.configure("max_payload: 64KB\n")
    async with Copied(nats, interval=0.5) as copied:
        session = await copied.server()
        large = ["x" * size for size in (64 * 1024 - 100, 200_000)]
        for name, value in zip(("abig", "almost"), large, strict=True):
            await session.post(f"{ROOT}/{name}", json={"x": value})
        await session.post(f"{ROOT}/small", json={"x": 1})
        await session.post(f"{ROOT}/zsmall", json={"x": 1})
        await copied.becomes({"small": {"x": 1}, "zsmall": {"x": 1}})
        await until(lambda: behind(session, 1))
        [line] = [one.message for one in caplog.records if "is not complete" in one.message]
        assert "raise its max_payload, which is 65536" in line
        for name in ("abig", "almost"):
            await session.post(f"{ROOT}/{name}", json={"x": 1})
        await copied.becomes({name: {"x": 1} for name in ("abig", "almost", "small", "zsmall")})
        await until(lambda: behind(session, 0))


async def test_a_server_whose_store_was_moved_puts_nothing_over_what_the_new_one_has_put(
    nats: Nats, caplog: pytest.LogCaptureFixture
) -> None:
    async def was_moved() -> None:
        raise StoreRefused("the store was moved", "give --store with that")

    counts, name = StoreCounts(), DocumentName(Scope("default", "default"), "default", "a")
    later = uuid7(epoch_ms(mint_epoch()) + 3_600_000)
    async with (
        Copied(nats) as copied,
        Documents(MemoryStore()) as old,
        Documents(MemoryStore(after=later)) as new,
    ):
        await new.set(name, b'{"x":2}', by="ana")
        await old.set(name, b'{"x":1}', by="ana")
        async with projecting(nats.url, new, 0.2, StoreCounts(), was_moved):
            await copied.becomes({"a": {"x": 2}})
        async with projecting(nats.url, old, 0.2, counts, was_moved):
            await until(lambda: is_said(caplog, "is not complete: the store was moved"))
            assert counts.copies_behind == 1
            assert await read(copied.stream) == {"a": {"x": 2}}
        assert "somebody else" not in caplog.text


async def is_said(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return words in caplog.text


class Overtaken(Documents):
    """While it is read, `meanwhile` happens, once."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def snapshot(self, scope: Scope, namespace: str | None = None) -> ScopeSnapshot:
        if (meanwhile := self.meanwhile) is not None:
            self.meanwhile = None
            await meanwhile()
        return await super().snapshot(scope, namespace)


async def test_who_writes_to_a_bucket_in_the_moment_it_is_made_is_found_and_mended(nats: Nats) -> None:
    async def may_write() -> None:
        pass

    async with Copied(nats) as copied, Overtaken(MemoryStore()) as documents:
        name = DocumentName(Scope("default", "default"), "default", "a")
        await documents.set(name, b'{"x":1}', by="ana")

        async def by_hand() -> None:
            bucket = await copied.stream.create_key_value(KeyValueConfig(bucket=BUCKET))
            await bucket.put("stranger", b"7")

        documents.meanwhile = by_hand
        async with projecting(nats.url, documents, 0.2, StoreCounts(), may_write):
            await copied.becomes({"a": {"x": 1}})


async def test_a_put_that_comes_late_is_not_over_a_newer_one(nats: Nats) -> None:
    async with Copied(nats) as copied, slow_line(nats.port) as line:
        fast = await copied.server()
        await copied.server(f"nats://127.0.0.1:{line.port}")
        numbers = itertools.count(1)
        while not line.holds(b"HPUB $KV.SYS_config_default.a "):
            line.is_open.set()
            await fast.post(f"{ROOT}/a", json={"x": (number := next(numbers))})
            await copied.becomes({"a": {"x": number}})
            line.is_open.clear()
            await fast.post(f"{ROOT}/a", json={"x": (number := next(numbers))})
            with suppress(TimeoutError):  # else the slow server was busy with the one before
                await until(lambda: holds_put(line), within=2.0)
        await fast.post(f"{ROOT}/a", json={"x": (number := next(numbers))})
        await copied.becomes({"a": {"x": number}})
        before = (await copied.stream.stream_info(f"KV_{BUCKET}")).state.last_seq
        line.is_open.set()
        await fast.post(f"{ROOT}/b", json={"x": 1})
        await copied.becomes({"a": {"x": number}, "b": {"x": 1}})
        await line.passed()
        after = await copied.stream.stream_info(f"KV_{BUCKET}")
        assert after.state.last_seq == before + 1, "only b was put"


async def holds_put(line: SlowLine) -> bool:
    return line.holds(b"HPUB $KV.SYS_config_default.a ")


class SlowLine:
    """A port that leads to another one; what is sent there waits while `is_open` is clear."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.port = 0
        self.is_open = asyncio.Event()
        self.is_open.set()
        self._held: list[bytes] = []
        self._writers: list[asyncio.StreamWriter] = []

    def holds(self, text: bytes) -> bool:
        return any(text in data for data in self._held)

    async def passed(self) -> None:
        """Return when everything that was held has been sent."""
        await until(lambda: self._is_empty())

    async def _is_empty(self) -> bool:
        return not self._held

    async def lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += writer, back
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._send(reader, back), self._answer(onward, writer))

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self._held.append(data)
            await self.is_open.wait()
            writer.write(data)
            await writer.drain()
            self._held.remove(data)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    def close(self) -> None:
        self.is_open.set()
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def slow_line(port: int) -> AsyncIterator[SlowLine]:
    line = SlowLine(port)
    server = await asyncio.start_server(line.lead, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        line.close()
        server.close()


def test_whatever_differs_from_a_later_read_of_the_store_is_replaced_and_what_is_not_of_the_store_is_named() -> (
    None
):
    old, now, new = ("01900000-0000-7000-8000-00000000000" + digit for digit in "123")
    digest = sha256(b"1").digest()
    held = {
        "before": Held(1, Version(old, 9), digest),
        "older": Held(2, Version(now, 3), digest),
        "equal": Held(3, Version(now, 4), digest),
        "damaged": Held(4, Version(now, 4), b"?"),
        "later": Held(5, Version(now, 9), digest),
        "epoch": Held(6, Version(new, 1), digest),
        "by hand": Held(7, NEVER, digest),
        "gone": Held(8, Version(now, 4), digest),
        "is gone": Held(9, Version(now, 4)),
        "stranger": Held(10, Version(now, 6), digest),
        "marked": Held(11, Version(now, 3)),
    }
    names = ("before", "older", "equal", "damaged", "later", "epoch", "by hand", "marked", "absent")
    wanted = dict.fromkeys(names, (4, b"1"))
    puts = {put.name: put for put in plan(wanted, Version(now, 5), held)}
    assert puts.keys() == (wanted.keys() | held.keys()) - {"equal", "is gone"}
    assert puts["older"] == Put("older", Version(now, 4), b"1", 2)
    assert puts["gone"] == Put("gone", Version(now, 5), None, 8)
    assert puts["absent"] == Put("absent", Version(now, 4), b"1", 0)
    foreign = {"damaged", "later", "epoch", "by hand", "stranger"}
    assert {name for name, put in puts.items() if put.is_foreign} == foreign
    again = plan(wanted, Version(now, 5), held, epoch=now)
    assert {put.name for put in again if put.is_foreign} == {*foreign, "before"}
