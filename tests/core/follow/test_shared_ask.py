"""One question answers every call that came before it began."""

import asyncio

from cfgsync_core import Unavailable
from cfgsync_core.follow.shared_ask import SharedAsk


class Slow:
    """A question whose answers are numbered; each waits for `release`."""

    def __init__(self) -> None:
        self.asked = 0
        self.release = asyncio.Event()

    async def __call__(self) -> int:
        self.asked += 1
        number = self.asked
        await self.release.wait()
        return number


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_calls_that_come_while_a_question_is_under_way_share_the_next_one():
    slow = Slow()
    shared = SharedAsk(slow)
    first = asyncio.create_task(shared.ask())
    await settled()
    later = [asyncio.create_task(shared.ask()) for _ in range(10)]
    await settled()
    assert slow.asked == 1
    later.pop().cancel()
    slow.release.set()
    assert await first == 1
    assert await asyncio.gather(*later) == [2] * 9
    assert await shared.ask() == 3


async def test_a_question_that_fails_fails_its_callers_and_not_the_next():
    answers = iter([Unavailable("away"), 7])

    async def question() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    shared = SharedAsk(question)
    calls = await asyncio.gather(shared.ask(), shared.ask(), return_exceptions=True)
    assert [type(call) for call in calls] == [Unavailable, Unavailable]
    assert await shared.ask() == 7
