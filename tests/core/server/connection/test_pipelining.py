"""Who sends many requests at once takes turns with everybody else."""

from __future__ import annotations

import asyncio

from cfgsync_core import HttpServer
from cfgsync_core.server.route import Call, Reply
from tests.routes import get

MANY = 400


async def test_one_connection_with_many_requests_does_not_hold_up_another() -> None:
    answered = 0
    before_the_other: list[int] = []

    async def livez(call: Call) -> Reply:
        nonlocal answered
        answered += 1
        return Reply(200, (b"{}",))

    async def readyz(call: Call) -> Reply:
        before_the_other.append(answered)
        return Reply(200, (b"{}",))

    async with HttpServer([get("/livez", livez), get("/readyz", readyz)], port=0) as server:
        greedy, greedy_out = await asyncio.open_connection("127.0.0.1", server.port)
        other, other_out = await asyncio.open_connection("127.0.0.1", server.port)
        greedy_out.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * MANY)
        other_out.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        await other.readuntil(b"{}")
        for _ in range(MANY):
            await greedy.readuntil(b"{}")
        for out in (greedy_out, other_out):
            out.close()
            await out.wait_closed()
    assert answered == MANY
    assert before_the_other[0] < MANY // 10, before_the_other
