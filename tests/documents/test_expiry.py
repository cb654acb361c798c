"""Cached results expire by their kind: past their time, at an event, and where events may have been missed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from cfgsync_core import Unavailable
from cfgsync_documents import ConfigManager, Result, ResultCache, Scope, UnknownKind
from cfgsync_documents.client.expiry import DEFAULT_KINDS
from cfgsync_documents.client.kind_events import following_kinds
from cfgsync_documents.client.transport import ScopeTransport
from cfgsync_documents.kinds import Kind, read_kinds
from cfgsync_runtime.compose.document_server import serving_documents
from tests.scripted_server import Says, ScriptedServer

ROOT = Path(__file__).parents[2]
ADMIN = "/v1/config/admin/apps/shop/envs/live"
KINDS = {
    "forbid": Kind(60),
    "flagged": Kind(60, max_stale="flagged"),
    "some": Kind(60, max_stale=30.0),
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Resolver:
    """Counts its calls; may be away, or wait in the middle of one."""

    def __init__(self) -> None:
        self.calls = 0
        self.away = False
        self.held: asyncio.Event | None = None
        self.begun = asyncio.Event()

    async def __call__(self) -> int:
        self.calls += 1
        mine = self.calls
        self.begun.set()
        if self.held is not None:
            await self.held.wait()
        if self.away:
            raise Unavailable("nobody is there")
        return mine


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> ResultCache:
    return ResultCache(KINDS, clock=clock)


async def test_a_result_is_used_until_its_time_is_over_counted_from_the_request(cache, clock):
    resolve = Resolver()
    resolve.held = asyncio.Event()
    first = asyncio.create_task(cache.get_or_compute("forbid", ("t", "u"), resolve))
    await resolve.begun.wait()
    clock.now += 10  # the answer took ten seconds
    resolve.held.set()
    assert await first == Result(1, 10.0)
    clock.now += 49.9
    assert await cache.get_or_compute("forbid", ("t", "u"), resolve) == Result(1, pytest.approx(59.9))
    clock.now += 0.2
    assert await cache.get_or_compute("forbid", ("t", "u"), resolve) == Result(2, 0.0)
    assert (await cache.get_or_compute("forbid", ("t", "another"), resolve)).value == 3
    assert (await cache.get_or_compute("some", ("t", "u"), resolve)).value == 4


@pytest.mark.parametrize(
    ("kind", "past", "stale"),
    [("forbid", 0.1, None), ("flagged", 1e6, 1e6 + 60), ("some", 29.0, 89.0), ("some", 31.0, None)],
)
async def test_past_its_time_a_kind_says_whether_a_result_is_used_while_no_answer_comes(
    cache, clock, kind, past, stale
):
    resolve = Resolver()
    await cache.get_or_compute(kind, ("k",), resolve)
    clock.now += 60 + past
    resolve.away = True
    if stale is None:
        with pytest.raises(Unavailable, match="nobody is there"):
            await cache.get_or_compute(kind, ("k",), resolve)
    else:
        assert await cache.get_or_compute(kind, ("k",), resolve) == Result(1, stale, is_stale=True)
    resolve.away = False
    assert await cache.get_or_compute(kind, ("k",), resolve) == Result(3, 0.0)


async def test_an_event_during_a_fetch_keeps_its_value_out_of_the_cache(cache):
    resolve = Resolver()
    resolve.held = asyncio.Event()
    first = asyncio.create_task(cache.get_or_compute("flagged", ("k",), resolve))
    await resolve.begun.wait()
    cache.bust("flagged")
    resolve.begun.clear()
    second = asyncio.create_task(cache.get_or_compute("flagged", ("k",), resolve))
    await resolve.begun.wait()  # it does not join the fetch from before the event
    resolve.held.set()
    assert [(await one).value for one in (first, second)] == [1, 2]
    assert (await cache.get_or_compute("flagged", ("k",), resolve)).value == 2
    assert resolve.calls == 2


@pytest.mark.parametrize(("event", "survives"), [("flagged", False), (None, False), ("forbid", True)])
async def test_an_event_expires_its_kind_at_once_also_as_stale(cache, event, survives):
    resolve = Resolver()
    await cache.get_or_compute("flagged", ("k",), resolve)
    cache.bust(event)
    resolve.away = True
    if survives:
        assert (await cache.get_or_compute("flagged", ("k",), resolve)).value == 1
    else:
        with pytest.raises(Unavailable):
            await cache.get_or_compute("flagged", ("k",), resolve)


async def test_a_gap_asks_again_and_a_flagged_result_is_there_while_no_answer_comes(cache):
    resolve = Resolver()
    await cache.get_or_compute("flagged", ("k",), resolve)
    cache.gap()
    resolve.away = True
    assert (await cache.get_or_compute("flagged", ("k",), resolve)).is_stale
    resolve.away = False
    assert (await cache.get_or_compute("flagged", ("k",), resolve)).value == 3


async def test_calls_at_once_share_one_computation_and_the_oldest_results_go(clock):
    cache = ResultCache(KINDS, max_results=3, clock=clock)
    resolve = Resolver()
    results = await asyncio.gather(*(cache.get_or_compute("some", ("k",), resolve) for _ in range(100)))
    assert {one.value for one in results} == {1}
    for number in range(5):
        await cache.get_or_compute("some", (str(number),), resolve)
    assert len(cache) == 3
    with pytest.raises(UnknownKind, match="there are flagged, forbid, some"):
        await cache.get_or_compute("theme", ("k",), resolve)


async def test_a_caller_that_goes_away_takes_the_computation_from_no_other(cache):
    resolve = Resolver()
    resolve.held = asyncio.Event()
    one, other = (asyncio.create_task(cache.get_or_compute("some", ("k",), resolve)) for _ in range(2))
    await resolve.begun.wait()
    one.cancel()
    resolve.held.set()
    assert (await other).value == 1
    with pytest.raises(asyncio.CancelledError):
        await one


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not happened():
            await asyncio.sleep(0.01)


async def test_documents_kinds_and_busts_of_a_server_expire_results_and_its_end_is_a_gap():
    serves = serving_documents(open_documents=True)
    server = await serves.__aenter__()
    port = server.port
    async with aiohttp.ClientSession(server.url) as session, ConfigManager.connect(server.url) as manager:

        async def put(namespace: str, name: str, value: object) -> None:
            path = f"{ADMIN}/namespaces/{namespace}/documents/{name}"
            assert (await session.put(path, json={"contentJson": json.dumps(value)})).status == 200

        async with manager.results(app="shop", env="live") as cache:
            assert cache.kinds is DEFAULT_KINDS
            table = {
                "design_token": {"ttl": 300, "documents": "tokens/*", "max_stale": "flagged"},
                "evaluation": {"ttl": 600, "documents": "flags/*"},
            }
            await put("cfgsync", "kinds", table)
            await until(lambda: cache.kinds.get("evaluation") == Kind(600, "flags/*"))
            tokens, flags = Resolver(), Resolver()

            async def both() -> tuple[int, int]:
                shown = await cache.get_or_compute("design_token", ("acme",), tokens)
                return shown.value, (await cache.get_or_compute("evaluation", ("acme",), flags)).value

            async def both_become(least: tuple[int, int]) -> tuple[int, int]:
                async with asyncio.timeout(30):
                    while (now := await both())[0] < least[0] or now[1] < least[1]:
                        await asyncio.sleep(0.01)
                return now

            seen = await both()
            await put("tokens", "blue", "#00f")
            seen = await both_become((seen[0] + 1, seen[1]))
            async with session.post(f"{ADMIN}/bust/evaluation") as answer:
                assert answer.status == 200
            seen = await both_become((seen[0], seen[1] + 1))
            await put("elsewhere", "a", 1)  # of no kind

            await serves.__aexit__(None, None, None)
            tokens.away = flags.away = True
            async with asyncio.timeout(30):
                while not (await cache.get_or_compute("design_token", ("acme",), tokens)).is_stale:
                    await asyncio.sleep(0.01)
            with pytest.raises(Unavailable):
                await cache.get_or_compute("evaluation", ("acme",), flags)
            tokens.away = flags.away = False
            before = (await both())[0]
            async with serving_documents(open_documents=True, port=port):
                await both_become((before + 1, 0))  # the reconnection expires all


def test_the_shipped_table_of_kinds_is_valid_and_has_the_policy_of_each():
    kinds = read_kinds((ROOT / "examples/documents/kinds.json").read_bytes())
    policies = {name: kind.policy for name, kind in kinds.items()}
    assert policies.pop("evaluation") == "lww"
    assert set(policies.values()) == {"server_authoritative"}
    assert {kind.max_stale for kind in kinds.values()} == {"forbid"}
    assert {name: kinds[name].ttl for name in DEFAULT_KINDS} == {n: k.ttl for n, k in DEFAULT_KINDS.items()}


async def test_an_event_that_cannot_be_read_expires_everything_and_ends_nothing() -> None:
    events = [b'{"kind":"flagged","kinds":{"flagged":"e.1.1"}}', b'{"x":' + b"[" * 60_000, b"{}"]
    said = b"".join(b"event: config.config.cache_busted.v1\ndata: %b\n\n" % one for one in events[:2])
    later = b"event: config.config.cache_busted.v1\ndata: %b\n\n" % events[2]
    cache, resolve = ResultCache(KINDS), Resolver()
    with ScriptedServer([Says(200, said), Says(200, later, after=3600.0)]) as server:
        transport, scope = ScopeTransport(server.url), Scope("shop", "live")
        await cache.get_or_compute("some", ("k",), resolve)
        async with transport, following_kinds(transport, scope, cache):
            async with asyncio.timeout(30):
                while len(server.heard) < 2:
                    await asyncio.sleep(0.01)
        await cache.get_or_compute("some", ("k",), resolve)
        assert resolve.calls == 2
