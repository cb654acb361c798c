"""A stream of three replicas, as a user of the cluster sees it.

python stream.py fill URL…     make it, put messages into it, and print the name of its leader
python stream.py more URL…     put more messages into it and read all of them; print how many, and the leader
python stream.py whole URL…    wait until every replica has all of it; print how many have
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import nats
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import StreamInfo

T = TypeVar("T")

WITHIN = 60.0  # s: three servers elect a leader within one or two
MESSAGES = 100


async def until_it_works(ask: Callable[[], Awaitable[T]]) -> T:
    """Retry while the cluster elects a leader: until then it does not answer, or answers with an error."""
    end = time.monotonic() + WITHIN
    while True:
        try:
            return await ask()
        except (Error, OSError, asyncio.TimeoutError):  # noqa: UP041 - another class in Python 3.10 and nats-py
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.1)


async def fill(js: JetStreamContext) -> str:
    async def make() -> StreamInfo:
        return await js.add_stream(name="GREETINGS", subjects=["greetings.*"], num_replicas=3)

    await until_it_works(make)
    await publish(js, 1)
    return await leader(js)


async def more(js: JetStreamContext) -> str:
    await publish(js, MESSAGES + 1)
    reader = await until_it_works(lambda: js.pull_subscribe("greetings.*"))
    read: dict[int, str] = {}
    while len(read) < 2 * MESSAGES:
        for message in await until_it_works(lambda: reader.fetch(100, timeout=2)):
            read[message.metadata.sequence.stream] = message.data.decode()
            await message.ack()
    texts = set(read.values())
    assert texts == {f"hello {n}" for n in range(1, 2 * MESSAGES + 1)}
    return f"{len(texts)} {await leader(js)}"


async def whole(js: JetStreamContext) -> str:
    async def ask() -> str:
        info = await js.stream_info("GREETINGS")
        replicas = [] if info.cluster is None else info.cluster.replicas or []
        if not all(one.current and not one.offline and not one.lag for one in replicas) or len(replicas) != 2:
            raise OSError("a replica is behind")
        return f"{len(replicas) + 1} replicas have all {info.state.messages} messages"

    return await until_it_works(ask)


async def publish(js: JetStreamContext, first: int) -> None:
    """A majority acknowledges each message; otherwise it is sent again with the same id, which the stream stores once."""
    for n in range(first, first + MESSAGES):

        async def send(n: int = n) -> object:
            return await js.publish(
                "greetings.all", f"hello {n}".encode(), timeout=2, headers={"Nats-Msg-Id": str(n)}
            )

        await until_it_works(send)


async def leader(js: JetStreamContext) -> str:
    async def ask() -> str:
        cluster = (await js.stream_info("GREETINGS")).cluster
        if cluster is None or cluster.leader is None:
            raise OSError("no leader yet")
        return cluster.leader

    return await until_it_works(ask)


async def main(verb: str, urls: list[str]) -> None:
    async def quiet(_: Exception) -> None:
        """Ignore errors: a killed server is expected here."""

    client = await until_it_works(
        lambda: nats.connect(
            urls, error_cb=quiet, connect_timeout=2, reconnect_time_wait=0.1, max_reconnect_attempts=-1
        )
    )
    try:
        print(await {"fill": fill, "more": more, "whole": whole}[verb](client.jetstream()))
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
