"""Watchers by the thousand in one process: real `NodeWatch`es over bare connections, and all that became of them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec

from cfgsync_core import AppliedFiles, Fetched, NodeRegistration, NodeWatch
from cfgsync_core.node.received_answer import ReceivedAnswer
from cfgsync_core.node.requests import Lost, Request
from cfgsync_core.wire.acknowledgement import decode_acknowledgement
from tests.wires import Wires


class Watcher:
    """One node that watches `port`: what it wrote (when, on the monotonic clock, and the words of `/text`), which
    generation it was confirmed for last, and what it was answered. Its questions are not held when `held` is False:
    then every hint is lost on it."""

    def __init__(self, wires: Wires, name: str, interval: float, held: bool, chance: random.Random) -> None:
        self.name = name
        self.wrote: list[tuple[float, str]] = []
        self.generation: str | None = None
        self.statuses: Counter[int] = Counter()
        self.asked: list[float] = []
        """When each question that may be held was sent."""
        self.lost = 0
        self.acks: list[str] = []
        """The generations of its acknowledgements; one that was not answered in time is sent again."""
        self._held = held
        self._wire = wires.wire()
        self.watch = NodeWatch(
            NodeRegistration(name, "127.0.0.1"),
            self._send,
            self._apply,
            secret=f"secret-of-{name}",
            interval=interval,
            confirmed=self._confirmed,
            random=chance.random,
        )

    @property
    def text(self) -> str:
        return self.wrote[-1][1] if self.wrote else ""

    async def _send(self, request: Request) -> ReceivedAnswer:
        if request.path == "/node" and "Prefer" in request.headers:
            self.asked.append(time.monotonic())
            if not self._held:
                request = msgspec.structs.replace(
                    request, headers={k: v for k, v in request.headers.items() if k != "Prefer"}
                )
        try:
            answer = await self._wire.send(request)
        except Lost:
            self.lost += 1
            raise
        if request.path == "/node":
            self.statuses[answer.status] += 1
        elif request.path == "/ack":
            self.acks.append(decode_acknowledgement(request.body).generation)
        return answer

    async def _apply(self, fetched: Fetched) -> None:
        self.wrote.append((time.monotonic(), str(fetched.payload.files[0].content).strip()))
        self.generation = fetched.generation

    async def _confirmed(self, held: AppliedFiles) -> None:
        self.generation = str(held.version)

    async def run(self) -> None:
        try:
            await self.watch.run()
        finally:
            self._wire.close()


@asynccontextmanager
async def watching(
    port: int,
    names: Iterable[str],
    *,
    interval: float = 15.0,
    held: bool = True,
    seed: int,
    within: float = 90.0,
) -> AsyncIterator[list[Watcher]]:
    """Watchers of these names, each with its first files in place."""
    chance = random.Random(seed)
    wires = Wires(port)
    watchers = [Watcher(wires, name, interval, held, chance) for name in names]
    tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
    try:
        await until(lambda: all(watcher.wrote for watcher in watchers), within)
        yield watchers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(happened: Callable[[], bool], within: float = 60.0) -> None:
    """Return soon after `happened()`; fail when it never does."""
    async with asyncio.timeout(within):
        while not happened():
            await asyncio.sleep(0.02)
