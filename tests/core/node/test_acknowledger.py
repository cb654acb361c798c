"""When an acknowledgement is sent again."""

from __future__ import annotations

from cfgsync_core.node.acknowledger import Acknowledger
from cfgsync_core.node.answers import ReceivedAnswer
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
