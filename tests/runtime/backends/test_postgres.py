"""The engine of `postgresql:` beyond the contract: what it refuses, what a lost answer was, and what servers that share it see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest

from cfgsync_core import (
    NEVER,
    Backend,
    BucketSnapshot,
    Conflict,
    StoreDamaged,
    StoreRefused,
    Unavailable,
    Version,
)
from cfgsync_core.store import move_store
from cfgsync_runtime import open_backend
from cfgsync_runtime.backends.engines import without_password
from cfgsync_runtime.backends.postgres.address import read_address
from cfgsync_runtime.backends.postgres.failures import translated
from cfgsync_runtime.backends.postgres.hints import PostgresHints
from cfgsync_runtime.backends.postgres.writing import lock_buckets
from tests.postgres import Postgres, own_postgres
from tests.postgres import postgres as postgres


@pytest.fixture
def mine() -> Iterator[Postgres]:
    server = own_postgres()
    yield server
    server.remove()


async def said_by_sql(url: str, statement: str) -> str:
    at = read_address(url)
    session = await asyncpg.connect(at.dsn)
    try:
        return await session.execute(statement.format(schema=at.schema))
    finally:
        await session.close()


class Cutting:
    """A proxy in front of PostgreSQL. While `cut` is "before" or "after", the next COMMIT of a client cuts its connection
    before the server has it, or before the client has the answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.port = 0
        self.cut = ""
        self.cuts = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Cutting]:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self
            server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        answers = asyncio.create_task(self._answers(up_reader, writer))
        while data := await reader.read(65536):
            if self.cut and b"commit\0" in data:
                cut, self.cut, self.cuts = self.cut, "", self.cuts + 1
                answers.cancel()
                if cut == "after":
                    up_writer.write(data)
                    await up_writer.drain()
                break
            up_writer.write(data)
            await up_writer.drain()
        answers.cancel()
        for one in (writer, up_writer):
            one.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def silent(hints: AsyncIterator[None], seconds: float) -> None:
    """Return when no hint has come for so long."""
    with suppress(TimeoutError):
        while True:
            await asyncio.wait_for(anext(hints), seconds)


async def not_ready(server: Backend, within: float) -> None:
    """Raises what `ping` does at last."""
    async with asyncio.timeout(within):
        while True:
            await server.admin.ping()
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_commit_whose_answer_was_lost_is_looked_up_and_made_at_most_once(
    postgres: Postgres, cut: str
) -> None:
    async with Cutting(postgres.port).running() as proxy:
        url = postgres.url().replace(f":{postgres.port}/", f":{proxy.port}/")
        async with open_backend(url) as (store, *_):
            await store.commit("a", {"k": b"1"})
            proxy.cut = cut
            if cut == "after":
                assert (await store.commit("a", {"k": b"2"}, {"k": 1})).revision == 2
            else:
                with pytest.raises(Unavailable, match="nothing was written"):
                    await store.commit("a", {"k": b"2"}, {"k": 1})
            assert proxy.cuts == 1
            assert (await store.commit("a", {"k": b"3"})).revision == (3 if cut == "after" else 2)
            changes = await store.changes("a", NEVER)
            assert [change.revision for change in changes] == list(range(1, 4 if cut == "after" else 3))


async def test_while_the_database_is_away_nothing_is_acknowledged_and_all_heals_when_it_is_back(
    mine: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    url = mine.url("one")
    async with open_backend(url) as backend:
        store = backend.store
        before = await store.commit("a", {"k": b"1"})
        assert backend.hints is not None
        async with backend.hints.subscribe("a") as hints:
            mine.stop()
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await store.commit("a", {"k": b"2"})
                with pytest.raises(Unavailable):
                    await store.snapshot("a")
            with pytest.raises(Unavailable):
                await backend.admin.ping()
            mine.start()
            await asyncio.wait_for(anext(hints), 30)  # anything may have been missed
            assert [record.getMessage()[:8] for record in caplog.records].count("no hints") == 1
            assert await store.version("a") == before
            assert await store.commit("a", {"k": b"2"}) == Version(before.epoch, 2)
            await backend.admin.ping()


async def test_another_timeline_or_a_restored_dump_is_a_new_epoch_said_once(
    mine: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    url = mine.url("one")
    async with open_backend(url) as (store, *_):
        before = await store.commit("a", {"k": b"1"})
        mine.stop("fast")
        mine.promote()  # a replica that became the primary
        after = await store.commit("a", {"k": b"2"})
        assert after.revision == 2
        assert after.epoch > before.epoch
        assert after.resets(before)
    async with open_backend(url) as (store, *_):
        assert await store.version("a") == after
    said = [record for record in caplog.records if "another history" in record.message]
    assert len(said) == 1


async def test_sixteen_writers_on_two_servers_and_a_follower_that_misses_nothing(postgres: Postgres) -> None:
    """INV-19 for several servers: every commit has one revision, and a reader by `changes` sees each, in order."""
    url, many = postgres.url(), 1_000
    seen: list[int] = []
    async with (
        open_backend(url) as (one, *_),
        open_backend(url) as (other, *_),
        open_backend(url) as (third, *_),
    ):

        async def write(store: object, name: int) -> None:
            for n in range(many // 16):
                await store.commit("b", {f"{name}": f"{n}".encode()})  # type: ignore[attr-defined]

        async def follow() -> None:
            since = NEVER
            while len(seen) < (many // 16) * 16:
                changes = await third.changes("b", since)
                assert isinstance(changes, list)
                seen.extend(change.revision for change in changes)
                since = Version((await third.version("b")).epoch, seen[-1]) if seen else NEVER
                await asyncio.sleep(0)

        await asyncio.gather(follow(), *(write((one, other)[n % 2], n) for n in range(16)))
        assert seen == list(range(1, (many // 16) * 16 + 1))


@pytest.mark.timed
async def test_inv_22_with_three_servers_that_saturate_the_database_no_commit_waits_longer_than_2_s(
    postgres: Postgres,
) -> None:
    """Each server has more commits waiting than one group takes turns for; by the database's own share of a busy machine."""
    url, seconds = postgres.url(), 3.0
    took: dict[int, list[float]] = {0: [], 1: [], 2: []}
    async with AsyncExitStack() as stack:
        stores = [(await stack.enter_async_context(open_backend(url))).store for _ in range(3)]
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds

        async def write(number: int, name: int) -> None:
            count = 0
            while (began := loop.time()) < until:
                await stores[number].commit("b", {f"{number}-{name}": b"%d" % count})
                took[number].append(loop.time() - began)
                count += 1

        await asyncio.gather(*(write(number, name) for number in range(3) for name in range(32)))
    shares = [len(one) for one in took.values()]
    longest = max(map(max, took.values()))
    print(f"{sum(shares)} commits in {seconds:g} s, by server {shares}; the longest took {longest:.2f} s")
    assert longest < 2.0
    assert min(shares) > max(shares) / 4, "none starves"


async def test_of_servers_that_count_together_by_compare_and_set_none_is_lost(postgres: Postgres) -> None:
    url = postgres.url()
    async with open_backend(url) as (one, *_), open_backend(url) as (other, *_):

        async def count(store: object) -> None:
            done = 0
            while done < 25:
                entry = await store.get("c", "n")  # type: ignore[attr-defined]
                value, revision = (int(entry.value), entry.revision) if entry else (0, 0)
                try:
                    await store.commit("c", {"n": b"%d" % (value + 1)}, {"n": revision})  # type: ignore[attr-defined]
                except Conflict:
                    continue
                done += 1

        await asyncio.gather(*(count(store) for store in (one, other, one, other)))
        entry = await one.get("c", "n")
        assert entry is not None
        assert entry.value == b"100"


class Interrupted:
    """A session. Something happens after its first question, and after its first order that changes rows."""

    def __init__(
        self,
        session: asyncpg.Connection,
        after_fetch: Callable[[], Awaitable[object]],
        after_insert: Callable[[], Awaitable[object]],
    ) -> None:
        self._session = session
        self._after = {"select": after_fetch, "insert": after_insert}

    async def fetch(self, query: str, *more: object) -> object:
        return await self._then(query, await self._session.fetch(query, *more))

    async def execute(self, query: str, *more: object) -> object:
        return await self._then(query, await self._session.execute(query, *more))

    async def _then(self, query: str, result: object) -> object:
        if (after := self._after.pop(query.split()[0], None)) is not None:
            await after()
        return result


async def test_of_servers_that_make_the_same_buckets_none_holds_what_the_other_waits_for(
    postgres: Postgres,
) -> None:
    url = postgres.url()
    at = read_address(url)
    async with open_backend(url) as (store, *_), AsyncExitStack() as stack:
        one, other, looking = [await asyncpg.connect(at.dsn) for _ in range(3)]
        for session in (one, other, looking):
            stack.push_async_callback(session.close)
        going: list[asyncio.Task[list[str]]] = []

        async def locked(session: Any) -> list[str]:
            await session.execute("begin")
            names = await lock_buckets(session, at.schema, ["a", "b"])
            await session.execute("commit")
            return list(names)

        async def the_other_locks_both_or_waits() -> None:
            going.append(asyncio.create_task(locked(other)))
            waits = "select 1 from pg_locks where pid = $1 and not granted"
            async with asyncio.timeout(30):
                while not going[0].done() and not await looking.fetch(waits, other.get_server_pid()):
                    await asyncio.sleep(0.02)

        cut = Interrupted(one, lambda: store.commit("b", {"k": b"1"}), the_other_locks_both_or_waits)
        assert sorted(await locked(cut)) == sorted(await going[0]) == ["a", "b"]


async def test_an_unforeseen_error_ends_no_hints(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [ZeroDivisionError("unforeseen"), ValueError("and another one")]

    async def connect() -> asyncpg.Connection:
        if failures:
            raise failures.pop()
        return await asyncpg.connect(address.dsn)

    address = read_address(postgres.url())
    async with open_backend(postgres.url()), asyncpg.create_pool(address.dsn, min_size=0) as pool:
        hints = PostgresHints(address, connect, pool)
        async with hints.subscribe("a") as heard:
            hints.start()
            await asyncio.wait_for(anext(heard), 30)
        await hints.stop()
    [line] = [one for one in caplog.records if one.message.startswith("no hints of other servers")]
    assert line.exc_info is not None


async def test_a_hint_reaches_the_other_server(postgres: Postgres) -> None:
    url = postgres.url()
    async with open_backend(url) as one, open_backend(url) as other:
        assert one.hints is not None
        assert other.hints is not None
        async with other.hints.subscribe("a") as hints, other.hints.subscribe("b") as others:
            await silent(hints, 0.5)  # each is woken when listening begins
            await silent(others, 0.1)
            await one.store.commit("a", {"k": b"1"})
            await one.hints.publish("a")
            await asyncio.wait_for(anext(hints), 30)
            assert (await other.store.version("a")).revision == 1
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(others), 0.2)


async def test_a_changed_value_and_a_lost_row_of_history_are_damage(postgres: Postgres) -> None:
    url = postgres.url()
    async with open_backend(url) as (store, *_):
        await store.commit("a", {"k": b"1"})
        await store.commit("a", {"k": b"2"})
        await said_by_sql(url, "update {schema}.entry set value = 'x'")
        with pytest.raises(StoreDamaged):
            await store.snapshot("a")
        with pytest.raises(StoreDamaged):
            await store.get("a", "k")
        await said_by_sql(url, "delete from {schema}.history where revision = 1")
        with pytest.raises(StoreDamaged):
            await store.changes("a", NEVER)


async def test_a_newer_schema_and_a_database_that_is_not_durable_are_refused(mine: Postgres) -> None:
    url = mine.url("one")
    async with open_backend(url):
        pass
    await said_by_sql(url, "update {schema}.store set schema = 99")
    with pytest.raises(StoreRefused, match="schema 99"):
        await open_backend(url).__aenter__()
    mine.stop("fast")
    mine.start(fsync="off")
    with pytest.raises(StoreRefused, match="fsync=off"):
        await open_backend(mine.url()).__aenter__()


async def test_a_parameter_that_postgresql_does_not_know_is_refused_as_one(postgres: Postgres) -> None:
    url = postgres.url().replace("?schema=", "?scheme=")
    with pytest.raises(StoreRefused, match='unrecognized configuration parameter "scheme"') as refused:
        await open_backend(url).__aenter__()
    assert "does not answer" not in str(refused.value)
    assert "?schema=NAME" in refused.value.hint


async def test_a_database_without_a_free_session_says_so(mine: Postgres) -> None:
    mine.stop("fast")
    mine.start(max_connections="4", superuser_reserved_connections="0", max_wal_senders="0")
    async with AsyncExitStack() as stack:
        for _ in range(4):
            session = await asyncpg.connect(read_address(mine.url()).dsn)
            stack.push_async_callback(session.close)
        with pytest.raises(StoreRefused, match="no session left") as refused:
            await open_backend(mine.url()).__aenter__()
        assert "max_connections" in refused.value.hint


async def test_a_deadline_and_an_error_with_details_are_one_line_in_plain_words() -> None:
    deadlock = asyncpg.DeadlockDetectedError("deadlock detected\nDETAIL: process 1")
    for error, words in ((TimeoutError(), "no answer in time"), (deadlock, "deadlock detected")):
        with pytest.raises(Unavailable) as raised, translated("db"):
            raise error
        assert str(raised.value) == f"PostgreSQL at db: {words}"


async def test_a_store_that_was_moved_is_not_ready(postgres: Postgres) -> None:
    url = postgres.url()
    async with open_backend(url) as server:
        await server.store.commit("a", {"k": b"1"})
        async with open_backend(url) as old, open_backend(postgres.url()) as new:
            await move_store(old, new, ("the old one", "the new one"))
        with pytest.raises(Unavailable, match="was moved to the new one"):
            await not_ready(server, within=30)


async def test_a_reader_beside_a_server_sees_the_store_and_writes_nothing(postgres: Postgres) -> None:
    url = postgres.url("beside")
    with pytest.raises(StoreRefused, match="no store in schema 'beside'"):
        await open_backend(url, read_only=True).__aenter__()
    async with open_backend(url) as (store, *_):
        await store.commit("a", {"k": b"1"})
        async with open_backend(url, read_only=True) as (reader, *_):
            snapshot = await reader.snapshot("a")
            assert isinstance(snapshot, BucketSnapshot)
            assert snapshot.entries[0].value == b"1"
            with pytest.raises(StoreRefused):
                await reader.commit("a", {"k": b"2"})


@pytest.mark.parametrize(
    "url",
    ["postgresql://ana:canary-7@127.0.0.1:1/x", "postgresql://ana:canary-7@127.0.0.1/x?schema=A-B"],
)
async def test_no_message_repeats_a_password(url: str) -> None:
    with pytest.raises(StoreRefused) as refused:
        await open_backend(url).__aenter__()
    assert "canary-7" not in f"{refused.value} {refused.value.hint}"
    assert without_password(url).startswith("postgresql://127.0.0.1")
