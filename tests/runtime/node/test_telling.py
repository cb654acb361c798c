"""A program is told whenever what it was told last is not what is in place; a real state directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cfgsync_runtime.node.memory.state import KnownGeneration, NodeState, told_before
from cfgsync_runtime.node.telling import Telling
from tests.runtime.program.test_command import until


class Program:
    """Notes when it is told, and refuses as often as `refuses` says."""

    def __init__(self, state: NodeState, refuses: int = 0) -> None:
        self.state = state
        self.refuses = refuses
        self.tries = 0
        self.settled: list[str] = []
        self.said: list[str] = []

    async def tell(self) -> str:
        self.tries += 1
        return "it refused" if self.tries <= self.refuses else ""

    async def is_settled(self, why: str) -> None:
        self.settled.append(why)

    @asynccontextmanager
    async def told(
        self, told: str, in_place: str, splay: float = 0.0, random: float = 0.5
    ) -> AsyncIterator[Telling]:
        telling = Telling(
            self.state, self.tell, self.is_settled, told=told, in_place=in_place, splay=splay,
            say=self.said.append, random=lambda: random,
        )  # fmt: skip
        task = asyncio.create_task(telling.run())
        await asyncio.sleep(0)  # it has begun
        try:
            yield telling
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_crash_between_writing_and_telling_is_made_good_at_the_next_start(tmp_path: Path) -> None:
    state = NodeState(tmp_path, "a")
    assert told_before(state) == ""
    program = Program(state)
    async with program.told(told_before(state), "one", splay=3600) as telling:
        await until(lambda: program.settled == [""])
        assert (program.tries, telling.told, state.told()) == (1, "one", "one")
    async with program.told(told_before(state), "one"):
        await asyncio.sleep(0.05)
    assert program.tries == 1, "it knows them already"


async def test_a_state_directory_from_before_the_note_counts_as_told(tmp_path: Path) -> None:
    state = NodeState(tmp_path, "a")
    state.saw(KnownGeneration("", 0, "one", 1.0))
    assert state.told() is None
    assert (told_before(state), state.told()) == ("one", "one")


async def test_a_failure_is_said_once_and_tried_again_and_newer_files_are_tried_at_once(
    tmp_path: Path,
) -> None:
    state = NodeState(tmp_path, "a")
    program = Program(state, refuses=2)
    async with program.told("one", "two") as telling:
        await until(lambda: program.tries == 1)
        assert not await telling.told_within(5)
        telling.installed("three")
        await until(lambda: program.tries == 2, within=0.9)
        await until(lambda: program.settled[-1] == "")
        assert program.settled == ["it refused", "it refused", ""]
        assert (program.said, state.told()) == (["it refused"], "three")


async def test_the_splay_is_waited_for_and_only_the_newest_files_are_told(tmp_path: Path) -> None:
    state = NodeState(tmp_path, "a")
    program = Program(state)
    async with program.told("one", "one", splay=0.8) as telling:
        telling.installed("two")
        assert not await telling.told_within(0.1)
        telling.installed("three")
        await until(lambda: telling.told == "three")
        telling.installed("four")
        telling.installed("three")  # and back
        await asyncio.sleep(0.6)
    assert program.tries == 1


async def test_files_that_were_written_again_are_told_although_they_are_the_same(tmp_path: Path) -> None:
    state = NodeState(tmp_path, "a")
    program = Program(state)
    async with program.told("one", "one") as telling:
        await telling.will_change()
        assert state.told() == "", "a crash from here on does not leave it untold"
        assert program.tries == 0
        telling.changed()
        await until(lambda: state.told() == "one")
    assert program.tries == 1
