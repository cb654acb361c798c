"""The reference store beyond the contract: its clock, and hints in one process."""

import asyncio

import pytest

from cfgsync_core import NEVER, MemoryHints, MemoryStore


async def test_a_clock_that_goes_back_does_not_take_history_with_it():
    now = iter([1000, 2000, 500, 2001])
    store = MemoryStore(clock=lambda: next(now))
    for n in range(4):
        await store.commit("b", {"a": b"%d" % n})
    assert [change.at_ms for change in await store.changes("b", NEVER)] == [1000, 2000, 2000, 2001]


async def test_unread_hints_collapse_into_one():
    hints = MemoryHints()
    async with hints.subscribe("b") as heard:
        for _ in range(5):
            await hints.publish("b")
        await anext(heard)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(heard), 0.02)


async def test_a_hint_reaches_every_subscriber_of_its_bucket_and_no_other():
    hints = MemoryHints()
    async with hints.subscribe("b") as one, hints.subscribe("b") as two, hints.subscribe("c") as other:
        await hints.publish("b")
        await anext(one)
        await anext(two)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(other), 0.02)


async def test_a_subscription_ends_with_its_block():
    hints = MemoryHints()
    async with hints.subscribe("b") as heard:
        waiting = asyncio.ensure_future(anext(heard, "ended"))
        await asyncio.sleep(0)
    assert await waiting == "ended"
    await hints.publish("b")
    assert await anext(heard, "ended") == "ended"
