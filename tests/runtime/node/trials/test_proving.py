"""How long files are on trial, and which ones a proof is about."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cfgsync_core import Fetched
from cfgsync_runtime.node.trials.health import Health
from cfgsync_runtime.node.trials.proving import Proving
from cfgsync_runtime.node.trials.trials import Trials
from tests.core.node.watch.test_node_watch import until

from .test_start import NEW, Machine, fetched

AFTER = 1.0


async def changed(proving: Proving, files: Fetched) -> None:
    async with proving.changing:
        await proving.begin(files)
        await proving.installed(files)
        await proving.told()


async def test_newer_files_that_come_in_the_middle_of_a_trial_have_their_whole_time(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    trials = Trials(machine.start(), machine.outputs, machine.state)
    reported: list[float] = []
    now = asyncio.get_running_loop().time

    async def report() -> None:
        reported.append(now())

    proving = Proving(
        trials, Health(after=AFTER), None, went_back=lambda held: False, report=report, say=lambda words: None
    )
    await changed(proving, NEW)
    await asyncio.sleep(AFTER / 2)
    await changed(proving, newer := fetched("newer", 3))
    began = now()
    await until(lambda: bool(reported))
    assert reported[0] - began >= AFTER - 0.05
    assert not trials.is_on
    assert trials.good is not None
    assert trials.good.payload.digest == newer.digest
