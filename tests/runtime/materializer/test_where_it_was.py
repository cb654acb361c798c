"""A run that does not end says where in the application it was at its deadline: to `cfgsync check`, and in the server's log."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from cfgsync_adapter import NodeRegistration, NotReady, RegistrationConfigSource, RegistrationSnapshot
from cfgsync_adapter.runs import overdue
from cfgsync_core import MaterializationFailed
from cfgsync_runtime.cli.entry import main
from cfgsync_runtime.materializer import child
from cfgsync_runtime.materializer.child import ChildDecider
from tests.processes import eventually

FLEET = RegistrationSnapshot({"a": NodeRegistration("a", "10.0.0.1")})
RECORDED = {
    "cfgsync_snapshot": 1,
    "taken_at": "",
    "version": "0199a3c2-7d00-7000-8000-000000000000.1",
    "generation": None,
    "registrations": [{"identifier": "a", "ip": "10.0.0.1"}],
    "shared": [],
    "nodes": [],
}
HEAD = """
import asyncio, os, re, sys, threading, time
from cfgsync_adapter import *

class Mine:
    def materialize_snapshot(self, nodes):
        open("pid", "w").write(str(os.getpid()))
        return self.waits()
"""
SYNC = {
    "a loop": "    def waits(self):\n        while True: pass  # here\n",
    "a sleep": "    def waits(self):\n        time.sleep(600)  # here\n",
    "a lock": "    def waits(self):\n        threading.Lock().acquire() and threading.Event().wait()  # here\n",
    "a regular expression": '    def waits(self):\n        re.match(r"(a+)+$", "a" * 64 + "b")  # here\n',
    "a coroutine": "    async def waits(self):\n        await asyncio.sleep(600)  # here\n",
}
DEAF = """
    def waits(self):
        while True:
            try:
                time.sleep(600)
            except BaseException:
                pass
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(child, "TELLS_WITHIN", 60.0)


def written(method: str) -> int:
    """Write `app:Mine`; the line with `# here`."""
    text = HEAD + method
    Path("app.py").write_text(text)
    return next((at for at, line in enumerate(text.splitlines(), 1) if "# here" in line), 0)


async def late(decider: ChildDecider) -> MaterializationFailed:
    """How a run ends whose deadline comes when the application is in it."""
    loop = asyncio.get_running_loop()
    Path("pid").unlink(missing_ok=True)

    async def comes(deadline: asyncio.Timeout) -> None:
        while not (Path("pid").exists() and Path("pid").read_text()):
            await asyncio.sleep(0.01)
        deadline.reschedule(loop.time() + 0.3)

    try:
        async with asyncio.timeout(60) as deadline, asyncio.TaskGroup() as tasks:
            tasks.create_task(comes(deadline))
            await decider.decide(FLEET)
    except TimeoutError as over:
        return overdue(over, 1)
    raise AssertionError("it returned")


@pytest.mark.parametrize("method", SYNC.values(), ids=SYNC)
async def test_the_failure_names_the_line_and_has_the_frames_of_the_application(method: str) -> None:
    line = written(method)
    async with ChildDecider("app:Mine") as decider:
        failure = await late(decider)
    assert failure.cause == f"no answer within 1 s: it was in app.py, line {line}"
    assert failure.told == failure.cause, "these are cfgsync's own words"
    assert f'app.py", line {line}, in waits' in failure.trace
    assert "# here" in failure.trace
    assert "cfgsync_" not in failure.trace
    assert "KeyboardInterrupt" not in failure.trace
    assert "CancelledError" not in failure.trace


async def test_a_process_that_does_not_tell_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "TELLS_WITHIN", 0.2)
    written(DEAF)
    async with ChildDecider("app:Mine") as decider:
        failure = await late(decider)
        assert (failure.cause, failure.trace) == ("no answer within 1 s", "")
    pid = int(Path("pid").read_text())
    eventually(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_the_next_run_has_a_fresh_process(tmp_path: Path) -> None:
    method = """
    def waits(self):
        if not os.path.exists("again"):
            open("again", "w").close()
            time.sleep(600)
        return NotReady("told")
"""
    written(method)
    async with ChildDecider("app:Mine") as decider:
        await late(decider)
        assert (await decider.decide(FLEET)).answer == NotReady("told")


async def test_the_log_of_a_server_has_the_place_and_the_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = written(SYNC["a sleep"])
    async with (
        ChildDecider("app:Mine") as decider,
        RegistrationConfigSource(decider=decider, run_timeout=5.0) as source,
    ):
        await source.register(NodeRegistration("a", "10.0.0.1"))
        with pytest.raises(MaterializationFailed, match=f"it was in app.py, line {line}"):
            await source.resolve("a", wait=30)
    (said,) = [one for one in caplog.records if "the materializer failed" in one.getMessage()]
    assert f'app.py", line {line}, in waits' in said.__dict__["traceback"]


def test_a_check_prints_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    line = written(SYNC["a sleep"])
    Path("fleet.json").write_text(json.dumps(RECORDED))
    began = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        main(["check", "app:Mine", "--snapshot", "fleet.json", "--run-timeout", "5"])
    assert (ended.value.code, time.monotonic() - began > 5) == (1, True)
    shown = capsys.readouterr().err
    assert f'app.py", line {line}, in waits' in shown
    assert shown.splitlines()[-2] == f"failed: no answer within 5 s: it was in app.py, line {line}"
