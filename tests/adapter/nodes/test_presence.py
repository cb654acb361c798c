"""What a node promises decides whether it expires; a promise is durable, and no generation comes of it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_core import Acknowledgement, MemoryStore, Ready
from tests.adapter.fleets import ReadyAt, node
from tests.adapter.nodes.test_membership import TTL, Clock, expire, promising, until_settled


async def test_a_node_that_promised_nothing_never_expires_and_one_that_withdrew_neither() -> None:
    clock = Clock()
    async with RegistrationConfigSource(ReadyAt(1), ttl=TTL, seen=clock.seen()) as source:
        await source.register(node("one-shot"))
        await promising(source, "watches", "withdraws")
        await source.promise("withdraws", None)
        clock.now += 100 * TTL
        assert await expire(source) == ["watches"]
        assert [one.identifier for one in source.fleet(9, "").nodes] == ["one-shot", "withdraws"]


async def test_a_promise_makes_no_generation_and_outlives_the_server() -> None:
    store, clock = MemoryStore(), Clock()
    async with RegistrationConfigSource(ReadyAt(1), store=store, ttl=TTL, seen=clock.seen()) as source:
        await promising(source, "watches")
        await source.register(node("one-shot"))
        await until_settled(source)
        before = source.generation, source.runs, source.fleet(0, "").revision
        await source.promise("watches", 30)
        await asyncio.sleep(0.3)
        assert (source.generation, source.runs, source.fleet(0, "").revision) == before
    async with RegistrationConfigSource(ReadyAt(1), store=store, ttl=TTL, seen=clock.seen()) as source:
        assert (source.node("watches").keepalive, source.node("one-shot").keepalive) == (30, None)
        clock.now += TTL
        assert await expire(source) == ["watches"]


async def test_a_name_that_left_promises_nothing_when_it_comes_back() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        await promising(source, "a")
        await source.evict("a")
        assert await store.get("promises", "a") is None
        await source.promise("a", 60)
        assert await store.get("promises", "a") is None, "no promise of a stranger is kept"
        await source.register(node("a"))
        assert source.node("a").keepalive is None


async def test_a_promise_that_a_crash_has_left_behind_removes_nobody() -> None:
    store, clock = MemoryStore(), Clock()
    await store.commit("promises", {"ghost": b"20"})
    async with RegistrationConfigSource(ReadyAt(1), store=store, ttl=TTL, seen=clock.seen()) as source:
        await source.register(node("a"))
        clock.now += TTL
        assert not await expire(source)
        assert source.node("ghost").keepalive is None


async def test_a_long_promise_is_said_once_when_it_starts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cfgsync"):
        async with RegistrationConfigSource(ReadyAt(1), ttl=TTL) as source:
            await promising(source, "short", seconds=30)
            assert not caplog.records
            await promising(source, "a", "b", seconds=31)
            await source.promise("a", 31)
    assert [one.getMessage() for one in caplog.records] == [
        "a promises to be heard of every 31 s, which is over half of --ttl (60 s): one late request would remove it;"
        " give a longer --ttl"
    ]


async def test_after_a_restart_a_node_is_not_heard_of_and_is_not_said_to_be_unknown() -> None:
    store = MemoryStore()
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        await source.register(node("a"))
        answer = await source.resolve("a")
        assert isinstance(answer, Ready)
        await source.acknowledge(
            Acknowledgement("a", answer.generation or "", answer.payload.digest, "applied")
        )
        assert source.node("a").reason == "applied generation 1"
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        told = source.node("a")
        assert (told.state, told.reason) == (
            "applied",
            "applied generation 1, not heard of since the restart",
        )
        assert "restart" not in source.node("b").reason
        await source.register(node("a"))
        assert source.node("a").reason == "applied generation 1"


async def test_the_name_of_a_silent_one_shot_node_lapses_and_its_acknowledgement_with_it() -> None:
    store, clock = MemoryStore(), Clock()
    async with RegistrationConfigSource(ReadyAt(1), store=store, ttl=TTL, seen=clock.seen()) as source:
        await promising(source, "watches")
        await source.register(node("one-shot"))
        answer = await source.resolve("one-shot")
        assert isinstance(answer, Ready)
        await source.acknowledge(
            Acknowledgement("one-shot", answer.generation or "", answer.payload.digest, "applied")
        )
        clock.now += TTL - 1
        assert not await source.lapse("one-shot")
    async with RegistrationConfigSource(ReadyAt(1), store=store, ttl=TTL, seen=clock.seen()) as source:
        clock.now += TTL - 1
        assert not await source.lapse("one-shot"), "a restart gives it a whole ttl"
        clock.now += 1
        assert not await source.lapse("watches"), "that one expires"
        assert await source.lapse("one-shot")
        assert source.node("one-shot").applied is None
        assert source.node("one-shot").registered
    async with RegistrationConfigSource(ReadyAt(1), store=store) as source:
        clock.now += 1e9
        assert not await source.lapse("one-shot"), "never without a ttl"


async def test_many_that_promised_nothing_cost_an_expiry_nothing() -> None:
    clock = Clock()
    seen = clock.seen()
    async with RegistrationConfigSource(ReadyAt(1), ttl=TTL, seen=seen) as source:
        for n in range(100):
            await source.register(node(f"n{n}"))
        clock.now += TTL
        assert seen.oldest() == clock.now, "the next look is a whole ttl away"
        assert not seen.silent_since(clock.now)


async def test_a_node_that_comes_back_while_it_expires_is_still_expected() -> None:
    class Slow(MemoryStore):
        async def commit(self, bucket: str, *arguments: object, **more: object):  # type: ignore[no-untyped-def]
            version = await super().commit(bucket, *arguments, **more)  # type: ignore[arg-type]
            await asyncio.sleep(0.02)
            return version

    clock = Clock()
    async with RegistrationConfigSource(ReadyAt(1), store=Slow(), ttl=TTL, seen=clock.seen()) as source:
        await promising(source, "a")
        clock.now += TTL
        expiring = asyncio.create_task(expire(source))
        await asyncio.sleep(0.01)
        await source.register(node("a"))
        await source.promise("a", 20)
        assert await expiring == ["a"]
        assert source.node("a").registered
        clock.now += TTL
        assert await expire(source) == ["a"]
