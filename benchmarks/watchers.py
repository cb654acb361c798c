"""Nodes that watch, as the load generator's jobs: the real `NodeWatch`, over bare connections of one process."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from cfgsync_core import Fetched, NodeRegistration, NodeWatch
from cfgsync_core.node.received_answer import ReceivedAnswer
from cfgsync_core.node.requests import Request
from tests.wires import Wire, Wires

from . import words
from .jobs import Job, Result
from .materializers import TELLER
from .processes import processor_seconds

BOOT_SECONDS = 60.0
APART_SECONDS = 0.5
"""Between two changes, so that each has a run of its own."""


class Round:
    """The watchers that have not applied what was told last; `done` when none is left."""

    def __init__(self) -> None:
        self.begin(0, 0)

    def begin(self, turn: int, many: int) -> None:
        self.done = asyncio.Event()
        self.last = 0.0
        self._turn, self._left = turn, many

    def applied(self, turn: int) -> None:
        if turn == self._turn:
            self._left -= 1
            self.last = time.perf_counter()
            if not self._left:
                self.done.set()


class Watcher:
    """One node. With `job.held` False it is answered at once, as if every hint were lost."""

    def __init__(self, wires: Wires, number: int, job: Job, round_: Round) -> None:
        self.questions = 0
        self._round = round_
        self._held = job.held
        self._wire: Wire = wires.wire()
        registration = NodeRegistration(words.identifier(number), "127.0.0.1")
        chance = random.Random(number)
        self._watch = NodeWatch(
            registration, self._send, self._apply, interval=job.interval, random=chance.random
        )

    async def run(self) -> None:
        await self._watch.run()

    async def _send(self, request: Request) -> ReceivedAnswer:
        if request.path == "/node":
            self.questions += 1
            if not self._held:
                headers = {name: value for name, value in request.headers.items() if name != "Prefer"}
                request = msgspec.structs.replace(request, headers=headers)
        return await self._wire.send(request)

    async def _apply(self, fetched: Fetched) -> None:
        first, _, _ = str(fetched.payload.files[0].content).partition("\n")
        self._round.applied(int(first) if first.isdigit() else 0)  # the bare yardstick tells nothing


async def follow(job: Job) -> Result:
    """`seconds` from a durable change to the last watcher that has applied it: the median of the turns, and in `last` the
    worst; `processor` of the server for one."""
    took: list[float] = []
    processor: list[float] = []
    async with _watching(job) as (_, round_):
        for turn in range(1, job.turns + 1):
            await asyncio.sleep(APART_SECONDS)
            cpu = processor_seconds(*job.pids)
            round_.begin(turn, job.count)
            await tell(job, turn)
            began = time.perf_counter()
            await round_.done.wait()
            took.append(round_.last - began)
            await asyncio.sleep(0.1)  # the acknowledgements
            processor.append(processor_seconds(*job.pids) - cpu)
    return Result(statistics.median(took), statistics.median(processor), last=max(took))


async def idle(job: Job) -> Result:
    """`processor` of the server, and `answers`, in the `seconds` of one interval in which nothing changes."""
    async with _watching(job) as (watchers, _):
        await asyncio.sleep(1.5 + job.interval)  # each is held, and what the boot has left is collected
        gc.collect()
        gc.freeze()
        cpu, began = processor_seconds(*job.pids), time.perf_counter()
        questions = sum(watcher.questions for watcher in watchers)
        await asyncio.sleep(job.interval)
        return Result(
            time.perf_counter() - began,
            processor_seconds(*job.pids) - cpu,
            answers=sum(watcher.questions for watcher in watchers) - questions,
        )


@asynccontextmanager
async def _watching(job: Job) -> AsyncIterator[tuple[list[Watcher], Round]]:
    """Everybody, with its first files in place."""
    await tell(job, 0)
    wires = [Wires(port) for port in job.ports]
    round_ = Round()
    round_.begin(0, job.count)
    watchers = [Watcher(wires[number % len(wires)], number, job, round_) for number in range(job.count)]
    tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
    async with asyncio.timeout(BOOT_SECONDS):
        await round_.done.wait()
    yield watchers, round_
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def tell(job: Job, turn: int) -> None:
    """Another registration of the one that everybody's files depend on; durable on return."""
    body = b'{"identifier":"%s","ip":"127.0.0.1","metadata":%d}' % (TELLER.encode(), turn)
    headers = {"Content-Type": "application/json"}
    wire = Wires(job.port).wire()
    answer = await wire.send(Request("/register", headers, body, 10.0, 10.0))
    wire.close()
    if answer.status != 202:
        raise RuntimeError(f"/register was answered {answer.status}")
