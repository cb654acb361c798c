"""Results that processes share in a real Redis: one computes, the others find it, and a change makes all compute again."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from cfgsync_core import MemoryStore
from cfgsync_documents import ConfigManager, ResultCache
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

    async def resolve(self, key: tuple[str, ...] = KEY) -> object:
        async def compute() -> object:
            self.computed += 1
            return {"for": list(key)}

        return (await self.cache.get_or_compute("ui", key, compute)).value


class Site:
    def __init__(self, url: str, session: aiohttp.ClientSession, stack: AsyncExitStack, redis: Redis) -> None:
        self._url = url
        self._session = session
        self._stack = stack
        self._redis = redis

    async def change(self, name: str, content: str) -> None:
        await put(self._session, content, f"{ADMIN}/namespaces/{name}")

    async def resolver(self) -> Resolver:
        manager = await self._stack.enter_async_context(ConfigManager.connect(self._url))
        results = manager.results(app="lobby", env="prod", redis_url=self._redis.url)
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
