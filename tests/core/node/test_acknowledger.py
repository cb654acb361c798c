"""When an acknowledgement is sent again."""

from __future__ import annotations

import asyncio

from cfgsync_core.node.acknowledger import Acknowledger
from cfgsync_core.node.received_answer import ReceivedAnswer
from cfgsync_core.node.requests import Request
from cfgsync_core.store.epoch import uuid7

EPOCH, DIGEST = uuid7(1_000_000), "sha256-" + "ab" * 32


async def test_one_whose_generation_is_two_behind_by_now_is_reported_again_under_the_next_answers_number() -> (
    None
):
    statuses, sent = [409, 204], []

    async def server(request: Request) -> ReceivedAnswer:
        sent.append(request.body)
        return ReceivedAnswer(statuses.pop(0), {})

    acknowledger = Acknowledger(server, None, repeat=False)
    assert await acknowledger.report("node-1", f"{EPOCH}.1", DIGEST)
    assert acknowledger.repeat, "the next answer of the server has the number to report"
    await acknowledger.send()
    assert len(sent) == 1, "under the old number it is never taken"
    acknowledger.repeat = False
    assert await acknowledger.report("node-1", f"{EPOCH}.4", DIGEST)
    assert not acknowledger.repeat
    assert [f"{EPOCH}.{n}".encode() in body for n, body in zip((1, 4), sent, strict=True)] == [True, True]


async def test_a_failure_that_lasts_is_sent_again_and_an_applied_set_is_not() -> None:
    """Another process of the node may have reported the same files as applied."""
    now, sent = [100.0], []

    async def server(request: Request) -> ReceivedAnswer:
        sent.append(request.body)
        return ReceivedAnswer(204, {})

    acknowledger = Acknowledger(server, None, repeat=False, clock=lambda: now[0])
    for failure, passed, so_far in (
        ("disk full", 0, 1), ("disk full", 29, 1), ("disk full", 1, 2), ("disk full", 29, 2), (None, 0, 3), (None, 99, 3),
    ):  # fmt: skip
        now[0] += passed
        await acknowledger.report("node-1", f"{EPOCH}.1", DIGEST, failure)
        assert len(sent) == so_far, (failure, passed)


async def test_what_is_reported_later_arrives_later() -> None:
    sent, answered = [], asyncio.Event()

    async def server(request: Request) -> ReceivedAnswer:
        sent.append(b"failed" in request.body)
        await answered.wait()
        return ReceivedAnswer(204, {})

    acknowledger = Acknowledger(server, None, repeat=False)
    applied = asyncio.create_task(acknowledger.report("node-1", f"{EPOCH}.1", DIGEST))
    await asyncio.sleep(0)
    failed = asyncio.create_task(acknowledger.report("node-1", f"{EPOCH}.1", DIGEST, "the program ended"))
    await asyncio.sleep(0)
    assert sent == [False], "the first one has no answer yet"
    answered.set()
    await asyncio.gather(applied, failed)
    assert sent == [False, True]
