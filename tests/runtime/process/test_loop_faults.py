"""Faults of the event loop: each says what and where in a line, and a flood of them is a few lines a minute."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cfgsync_runtime.process.loop_faults import LINES, MINUTE, LoopFaults


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fails() -> None:
    raise OSError(24, "Too many open files")


async def test_a_fault_is_one_line_that_says_what_and_where(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(LoopFaults())
    loop.call_soon(fails)
    await asyncio.sleep(0.01)
    (record,) = caplog.records
    said = record.getMessage()
    assert record.exc_info is None
    assert "\n" not in said
    assert "OSError: [Errno 24] Too many open files" in said
    assert "test_loop_faults.py" in said
    assert "fails)" in said


async def test_an_hour_of_a_fault_a_second_is_ten_lines_in_any_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, loop = Clock(), asyncio.get_running_loop()
    faults = LoopFaults(clock)
    at: list[float] = []
    caplog.handler.addFilter(lambda record: not at.append(clock.now))  # type: ignore[func-returns-value]
    for second in range(3600):
        clock.now = float(second)
        faults(loop, {"message": "socket.accept() out of system resource", "exception": OSError(24, "x")})
    assert len(at) > 60  # it goes on to be said
    assert max(sum(start <= when < start + MINUTE for when in at) for start in at) <= 10
    untold = [record.args[0] for record in caplog.records if "more faults" in record.msg and record.args]  # type: ignore[index]
    assert set(untold) == {60 - LINES}


async def test_what_was_not_told_is_summed_up_also_when_nothing_follows(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfgsync_runtime.process.loop_faults.MINUTE", 0.1)
    faults, loop = LoopFaults(), asyncio.get_running_loop()
    for _ in range(LINES + 7):
        faults(loop, {"message": "it is broken"})
    await asyncio.sleep(0.3)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["event loop: it is broken"] * LINES + [
        "event loop: 7 more faults like these within the minute"
    ]


async def test_what_the_objects_of_a_fault_hold_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    context = {"message": "Task exception was never retrieved", "task": "canary", "future": "canary"}
    LoopFaults()(asyncio.get_running_loop(), context)
    assert "canary" not in caplog.text
    assert caplog.records[0].levelno == logging.ERROR
