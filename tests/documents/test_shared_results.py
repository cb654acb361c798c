"""Results that processes share in a real Redis: one computes, the others find it, and a change makes all compute again."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from cfgsync_core import MemoryStore
from cfgsync_documents import ConfigManager, ResultCache, Scope
from cfgsync_documents.client.redis_results import RedisResults
from cfgsync_documents.kinds import Kind, kind_version
from cfgsync_runtime.compose.document_server import serving_documents
from tests.documents.test_by_scope import ADMIN, put
from tests.redis import Redis
from tests.redis import redis as redis

KINDS = {"ui": {"ttl": 120, "documents": "ui/*", "key": "cfg:ui:{tenantId}:{userId}"}, "tokens": {"ttl": 300}}
KEY = ("tenant:1", "ana")


class Resolver:
    """A process of an application, with a cache of its own and the shared one."""

    def __init__(self, cache: ResultCache) -> None:
        self.cache = cache
        self.computed = 0

    async def resolve(self, key: tuple[str, ...] = KEY, kind: str = "ui") -> object:
        async def compute() -> object:
            self.computed += 1
            return {"for": list(key)}

        return (await self.cache.get_or_compute(kind, key, compute)).value


class Site:
    def __init__(self, url: str, session: aiohttp.ClientSession, stack: AsyncExitStack, redis: Redis) -> None:
        self._url = url
        self._session = session
        self._stack = stack
        self._redis = redis

    async def change(self, name: str, content: str) -> None:
        await put(self._session, content, f"{ADMIN}/namespaces/{name}")

    async def resolver(self, app: str = "lobby", env: str = "prod") -> Resolver:
        manager = await self._stack.enter_async_context(ConfigManager.connect(self._url))
        results = manager.results(app=app, env=env, redis_url=self._redis.url)
        made = Resolver(await self._stack.enter_async_context(results))
        await told(made)
        return made


async def told(*resolvers: Resolver, other_than: str = "") -> str:
    """The version of the kind, when each of these knows it."""
    async with asyncio.timeout(30):
        while True:
            known = {one.cache.versions.get("ui") if "ui" in one.cache.kinds else None for one in resolvers}
            if len(known) == 1 and (version := known.pop()) and version != other_than:
                return version
            await asyncio.sleep(0.01)


@asynccontextmanager
async def site(redis: Redis) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        serving = serving_documents(store=MemoryStore(), open_documents=True)
        server = await stack.enter_async_context(serving)
        session = await stack.enter_async_context(aiohttp.ClientSession(server.url))
        made = Site(server.url, session, stack, redis)
        await made.change("cfgsync/documents/kinds", json.dumps(KINDS))
        await made.change("ui/documents/theme", "1")
        yield made


async def test_one_process_computes_for_all_until_the_kind_changes_or_redis_is_flushed(redis: Redis) -> None:
    async with site(redis) as here:
        one, two = await here.resolver(), await here.resolver()
        assert await one.resolve() == await two.resolve() == {"for": list(KEY)}
        assert (one.computed, two.computed) == (1, 0)
        keys = redis.say("KEYS *").decode()
        assert "cfg:ui:tenant%3A1:ana:" in keys
        assert await told(one, two) in keys
        version = await told(one, two)
        await two.resolve(("tenant", "1:ana"))
        assert two.computed == 1, "another tenant's key never hits"
        await here.change("ui/documents/theme", "2")
        assert await told(one, two, other_than=version) != version
        await one.resolve()
        await two.resolve()
        assert (one.computed, two.computed) == (2, 1)
        redis.say("FLUSHALL")
        late = await here.resolver()
        assert await late.resolve() == {"for": list(KEY)}
        assert late.computed == 1


async def test_a_redis_that_is_frozen_or_killed_costs_time_only(redis: Redis) -> None:
    async with site(redis) as here:
        one = await here.resolver()
        redis.send(signal.SIGSTOP)
        try:
            for number in range(20):
                key = (str(number), "ana")
                assert await one.resolve(key) == {"for": list(key)}
        finally:
            redis.send(signal.SIGCONT)
        redis.kill()
        assert await one.resolve(("x", "y")) == {"for": ["x", "y"]}
        redis.start()
        two = await here.resolver()
        assert await two.resolve() == {"for": list(KEY)}
        assert (one.computed, two.computed) == (21, 1)


async def test_what_json_cannot_hold_stays_in_the_process(redis: Redis) -> None:
    async with site(redis) as here:
        one = await here.resolver()

        async def compute() -> bytes:
            return b"raw"

        assert (await one.cache.get_or_compute("ui", ("a",), compute)).value == b"raw"
        assert redis.say("DBSIZE").startswith(b":0")


async def test_scopes_and_kinds_that_were_filled_alike_never_share_a_result(redis: Redis) -> None:
    kinds = json.dumps(dict.fromkeys(("ui", "menu"), KINDS["ui"]))
    scopes = [("lobby", "prod"), ("lobby", "live"), ("shop", "prod")]
    store = MemoryStore()
    async with AsyncExitStack() as stack:
        for _ in range(2):
            server = await stack.enter_async_context(serving_documents(store=store, open_documents=True))
            session = await stack.enter_async_context(aiohttp.ClientSession(server.url))
            here = Site(server.url, session, stack, redis)
            for app, env in scopes:
                place = f"/v1/config/admin/apps/{app}/envs/{env}/namespaces"
                await put(session, kinds, f"{place}/cfgsync/documents/kinds")
            await store.new_epoch()  # the second server finds one epoch in all buckets
        resolvers = [await here.resolver(*scope) for scope in scopes]
        assert len({one.cache.versions["ui"] for one in resolvers}) == 1
        for one in resolvers:
            for kind in ("ui", "menu"):
                await one.resolve(kind=kind)
        assert [one.computed for one in resolvers] == [2, 2, 2]
        late = await here.resolver(*scopes[0])
        await late.resolve()
        assert late.computed == 0


@asynccontextmanager
async def shared_by(redis: Redis, pattern: str = "") -> AsyncIterator[Resolver]:
    """A cache that keeps nothing in its process."""
    cache = ResultCache({"ui": Kind(60, key=pattern)}, max_results=0)
    cache.versions, cache.shared = {"ui": "e.1.1"}, RedisResults(redis.url, Scope("lobby", "prod"))
    try:
        yield Resolver(cache)
    finally:
        await cache.shared.close()


@pytest.mark.parametrize("pattern", ["", "cfg:{a}{b}", "cfg:{a}-{b}", "cfg:{a}", "{a}:{b}:{c}", "cfg"])
async def test_no_pattern_gives_two_keys_one_place(redis: Redis, pattern: str) -> None:
    keys = [("a-b", "c"), ("a", "b-c"), ("ab", "c"), ("a", "bc"), ("a:b", "c"), ("a", "b", ""), ("a", "b")]
    keys += [("a%3Ab", "c"), ("é", "x"), ("?", "x"), ("", ""), ("",), ()]
    async with shared_by(redis, pattern) as one:
        for key in [*keys, *keys]:
            assert await one.resolve(key) == {"for": list(key)}
        assert one.computed == len(keys)
        await one.resolve(("\ud800",))


@pytest.mark.parametrize("key", [(7,), (None,), ("a", True), "abc", ["a"]])
async def test_a_key_that_is_no_tuple_of_strings_is_refused_with_and_without_redis(
    redis: Redis, key: object
) -> None:
    async with shared_by(redis) as one:
        for resolver in (one, Resolver(ResultCache({"ui": Kind(60)}))):
            with pytest.raises(TypeError, match="the key of a result is a tuple of strings"):
                await resolver.resolve(key)


@pytest.mark.parametrize("found", [b"[" * 100_000, b'"\xff"', b"9" * 5_000, b"?"])
async def test_what_somebody_else_wrote_into_redis_is_computed_again(redis: Redis, found: bytes) -> None:
    async with shared_by(redis) as one:
        await one.resolve(("a",))
        [place] = await one.cache.shared._redis.keys("*")
        await one.cache.shared.put(place.decode(), found, 60.0)
        assert await one.resolve(("a",)) == {"for": ["a"]}
        assert one.computed == 2


def test_the_version_of_a_kind_differs_after_each_change_of_it_and_only_then() -> None:
    kind = Kind(60, documents="ui/*")
    states = [
        {"ui/a": 1, "ui/b": 2, "x/y": 3},
        {"ui/a": 1, "ui/b": 4, "x/y": 3},
        {"ui/b": 4, "x/y": 3},
        {"ui/b": 4, "ui/c": 5},
        {"ui/b": 4, "ui/c": 5, "cfgsync/busted.ui": 6},
    ]
    versions = [kind_version("ui", kind, "e", state) for state in states]
    assert len(set(versions)) == len(states)
    assert kind_version("ui", kind, "e", {**states[0], "x/y": 9}) == versions[0]
