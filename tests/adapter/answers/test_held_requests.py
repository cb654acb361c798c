"""Held questions end together and spread: a large idle fleet neither wakes its server for each node nor comes all at once."""

from __future__ import annotations

import asyncio
import random

import pytest

from cfgsync_adapter.answers.held_requests import EARLY, TICK, HeldRequest, HeldRequests
from cfgsync_core import NotReady
from tests.seeds import drawn_seed

OVER = NotReady("its time is over")


async def ends(waits: list[float], seed: int) -> tuple[list[float], list[float], list[int]]:
    """When each wait ended, in seconds after it began, when it was settled by the loop's clock, and how many were to
    end at each timer."""
    loop = asyncio.get_running_loop()
    settled: list[float] = []

    def settle(waiter: HeldRequest) -> NotReady | None:
        now = loop.time()
        settled.append(now)
        return OVER if now >= waiter.deadline else None

    waiting = HeldRequests(settle, random=random.Random(seed).random)

    async def one(number: int, wait: float) -> float:
        began = loop.time()
        assert await waiting.hold(HeldRequest(f"node-{number}", None, 0, wait, 0.0)) is OVER
        return loop.time() - began

    held = [asyncio.create_task(one(*numbered)) for numbered in enumerate(waits)]
    await asyncio.sleep(0.01)
    timers = [len(together) for _, together in waiting._due.values()]
    took = await asyncio.gather(*held)
    assert len(waiting) == 0
    assert not waiting._due, "nothing is left behind"
    return took, settled, timers


async def test_waits_that_began_together_end_at_few_moments_none_before_its_last_twentieth() -> None:
    seed = drawn_seed()
    took, settled, timers = await ends([2.0] * 400, seed)
    assert min(took) >= 2.0 * (1 - EARLY) - TICK
    assert len(settled) == 400, "each was looked at once"
    assert 2 <= len(timers) <= 8, "they end together, and not all at once"
    assert max(timers) < 300


async def test_a_wait_below_a_second_ends_when_it_ends() -> None:
    took, _, _ = await ends([0.1, 0.23, 0.31], 1)
    for wait, seconds in zip([0.1, 0.23, 0.31], took, strict=True):
        assert seconds >= wait


async def test_a_question_whose_asker_has_gone_leaves_nothing_behind() -> None:
    waiting = HeldRequests(lambda waiter: None)
    held = asyncio.create_task(waiting.hold(HeldRequest("a", None, 0, 20.0, 2.0)))
    await asyncio.sleep(0)
    assert ("a" in waiting, len(waiting._due)) == (True, 1)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert (len(waiting), len(waiting._due)) == (0, 0)
