"""Nodes that take turns, as the load generator's jobs: watchers whose programs prove new files for a while, or refuse them."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

from cfgsync_core import Fetched, NodeRegistration, NodeWatch
from cfgsync_core.node import NodeTurn, RefusedFiles
from tests.wires import Wires

from . import words
from .jobs import Job, Result
from .processes import processor_seconds
from .watchers import BOOT_SECONDS, tell

BEFORE = 10
"""The nodes of the fleet that runs before another one boots."""
GROUP = "default"
BAD = 1
"""What the teller says when the files of that fleet are to be bad."""


class Taker:
    """One node. Its program proves changed files within `trial` seconds, and refuses those that begin with `bad`."""

    def __init__(self, wires: Wires, number: int, trial: float = 0.0, bad: int | None = None) -> None:
        self.note = -1
        """What its program is well on."""
        self.turn = NodeTurn(GROUP)
        self._trial = trial
        self._bad = bad
        self._acknowledging = wires.wire()
        registration = NodeRegistration(words.identifier(number), "127.0.0.1")
        self.watch = NodeWatch(
            registration,
            wires.wire().send,
            self._apply,
            turn=self.turn,
            is_used=lambda _: not self.turn.trial,
        )
        self._proving: asyncio.Task[None] | None = None

    async def _apply(self, fetched: Fetched) -> None:
        note = int(str(fetched.payload.files[0].content).split("\n", 1)[0])
        is_first = self.note < 0
        if not is_first and note == self._bad:
            self.turn.refused = RefusedFiles(fetched.generation, fetched.digest, "exit code 1")
        elif is_first or not self._trial:
            self.note = note
        else:
            self.turn.trial = fetched.digest
            self._proving = asyncio.create_task(self._prove(note))

    async def _prove(self, note: int) -> None:
        await asyncio.sleep(self._trial)
        self.note, self.turn.trial, self.turn.refused = note, "", None
        self.watch.turn_has_changed()
        await self.watch.acknowledge(self._acknowledging.send)


class Takers:
    """These nodes, alive while the context lasts."""

    def __init__(self, takers: list[Taker]) -> None:
        self.takers = takers
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Takers:
        for taker in self.takers:
            await self._stack.enter_async_context(taker.watch)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def have(self, note: int) -> bool:
        """Whether all programs are well on these files."""
        return all(one.note == note for one in self.takers)


async def boot_beside(job: Job) -> Result:
    """`count` nodes that take turns boot beside a fleet of before, whose files are bad if `what` is `halted`: `seconds` from
    the first one's start until all have their files, `processor` until their acknowledgements are in, too."""
    wires = Wires(job.port)
    await tell(job, 0)
    async with Takers([Taker(wires, number, bad=BAD) for number in range(BEFORE)]) as before:
        await _until(lambda: before.have(0))
        await asyncio.sleep(1.0)  # everybody is through, and asks again
        if job.what == "halted":
            await tell(job, BAD)
            await _until(lambda: any(one.turn.refused is not None for one in before.takers))
            await asyncio.sleep(1.0)
        newest = BAD if job.what == "halted" else 0
        booting = Takers([Taker(wires, BEFORE + number) for number in range(job.count)])
        gc.collect()
        cpu, began = processor_seconds(job.pid), time.perf_counter()
        async with booting:
            await _until(lambda: booting.have(newest))
            seconds = time.perf_counter() - began
            await asyncio.sleep(2.0)
            if job.what == "halted" and sum(one.turn.refused is not None for one in before.takers) != 1:
                raise RuntimeError("it is not halted at its first node")
            return Result(seconds, processor_seconds(job.pid) - cpu)


async def roll(job: Job) -> Result:
    """A change of all files goes through `count` nodes in turns, each of which proves them in `interval` seconds: `seconds`
    from the durable change until the last one has."""
    wires = Wires(job.port)
    await tell(job, 0)
    async with Takers([Taker(wires, number, trial=job.interval) for number in range(job.count)]) as takers:
        await _until(lambda: takers.have(0))
        await asyncio.sleep(2.0)
        await tell(job, 1)
        cpu, began = processor_seconds(job.pid), time.perf_counter()
        await _until(lambda: takers.have(1))
        return Result(time.perf_counter() - began, processor_seconds(job.pid) - cpu)


async def _until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOOT_SECONDS):
        while not happened():  # noqa: ASYNC110  # it looks at many nodes
            await asyncio.sleep(0.01)
