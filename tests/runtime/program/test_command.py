"""The supervised command: told of changes, ended kindly and then not, its exit code ours; real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cfgsync_runtime.program.command import Command


async def until(happened: Callable[[], bool], within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not happened():
            await asyncio.sleep(0.01)


class Told:
    """A command that notes in `log` each start, each SIGHUP, and each SIGTERM, which it obeys unless it is stubborn."""

    SCRIPT = """
trap 'echo hup >> "$0"' HUP
trap '{on_term}' TERM
echo start $$ >> "$0"
while :; do sleep 0.02; done
"""

    def __init__(self, log: Path, on_term: str = 'echo term >> "$0"; exit 3') -> None:
        self.log = log
        self.words = ["sh", "-c", self.SCRIPT.format(on_term=on_term), str(log)]

    @property
    def said(self) -> list[str]:
        return [line.split()[0] for line in self.log.read_text().splitlines()] if self.log.exists() else []

    @property
    def pids(self) -> list[int]:
        return [
            int(line.split()[1]) for line in self.log.read_text().splitlines() if line.startswith("start")
        ]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["no-such-command-anywhere"], 127),
        (["/dev/null"], 126),
        (["/"], 126),
    ],
)
async def test_the_exit_code_is_as_a_shell_says_it(words: list[str], code: int) -> None:
    running: list[str] = []
    assert await Command(words, running=lambda: running.append("running")).run() == code
    assert len(running) == (0 if code in (126, 127) else 1)


async def test_a_change_restarts_it_and_the_new_one_begins_when_the_old_one_has_ended(tmp_path: Path) -> None:
    told = Told(tmp_path / "log")
    order: list[str] = []
    command = Command(
        told.words, changing=lambda: order.append("changing"), running=lambda: order.append("running")
    )
    running = asyncio.create_task(command.run())
    await until(lambda: told.said == ["start"])
    await command.tell()
    await until(lambda: told.said == ["start", "term", "start"])
    assert order == ["running", "changing", "running"]
    assert command.pid == told.pids[-1]
    command.end(signal.SIGTERM)
    assert await running == 3
    assert told.said == ["start", "term", "start", "term"]


async def test_with_a_reload_signal_it_is_told_and_goes_on(tmp_path: Path) -> None:
    told = Told(tmp_path / "log")
    command = Command(told.words, reload=signal.SIGHUP)
    running = asyncio.create_task(command.run())
    await until(lambda: told.said == ["start"])
    for heard in (1, 2):
        await command.tell()
        await until(lambda n=heard: told.said == ["start"] + ["hup"] * n)
    assert len(told.pids) == 1
    command.send(signal.SIGTERM)
    assert await running == 3


async def test_what_does_not_end_in_time_is_killed_and_that_is_said(tmp_path: Path) -> None:
    told, said = Told(tmp_path / "log", on_term='echo no >> "$0"'), []
    command = Command(told.words, grace=0.3, say=said.append)
    running = asyncio.create_task(command.run())
    await until(lambda: told.said == ["start"])
    await command.tell()
    await until(lambda: told.said == ["start", "no", "start"])
    assert said == ["sh did not end within 0.3 s of SIGTERM; killing it"]
    assert command.pid is not None
    command.send(signal.SIGKILL)
    assert await running == 137


async def test_changes_during_a_restart_are_one_restart(tmp_path: Path) -> None:
    told = Told(tmp_path / "log", on_term='sleep 0.3; echo term >> "$0"; exit 0')
    command = Command(told.words)
    running = asyncio.create_task(command.run())
    await until(lambda: told.said == ["start"])
    async with asyncio.TaskGroup() as telling:
        for _ in range(5):
            telling.create_task(command.tell())
            await asyncio.sleep(0.03)
    await until(lambda: told.said == ["start", "term", "start"])
    await asyncio.sleep(0.5)
    assert told.said == ["start", "term", "start"]
    command.send(signal.SIGKILL)
    await running


async def test_what_is_to_end_is_not_restarted_any_more(tmp_path: Path) -> None:
    told = Told(tmp_path / "log", on_term='sleep 0.2; echo term >> "$0"; exit 5')
    command = Command(told.words)
    running = asyncio.create_task(command.run())
    await until(lambda: told.said == ["start"])
    restart = asyncio.create_task(command.tell())
    await asyncio.sleep(0.05)
    command.end(signal.SIGTERM)
    assert await running == 5
    await restart
    assert told.said == ["start", "term"]


async def test_what_does_not_end_when_told_is_waited_for_and_said_once_and_heard_again(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    told = Told(log, on_term=f'echo term >> "$0"; [ $(grep -c term {log}) -lt 2 ] || exit 3')
    said: list[str] = []
    command = Command(told.words, grace=0.3, say=said.append)
    running = asyncio.create_task(command.run())
    await until(lambda: told.said == ["start"])
    for heard in (1, 2):
        command.end(signal.SIGTERM)
        await until(lambda n=heard: told.said == ["start"] + ["term"] * n)
        if heard == 1:
            await until(lambda: bool(said))
            await asyncio.sleep(0.5)
            assert command.pid == told.pids[0], "it is not killed without being told"
    assert await running == 3
    assert said == [
        f"waiting for sh (process {told.pids[0]}), which got SIGTERM 0.3 s ago and still runs."
        f" cfgsync passes each further SIGTERM on; kill -9 -- -{told.pids[0]} ends the program at once"
    ]


async def test_the_end_during_a_restart_is_waited_for_too(tmp_path: Path) -> None:
    told, said = Told(tmp_path / "log", on_term='sleep 1; echo term >> "$0"; exit 5'), []
    restarting: list[bool] = []
    command = Command(told.words, grace=0.3, say=said.append, changing=lambda: restarting.append(True))
    running = asyncio.create_task(command.run())
    await until(lambda: told.said == ["start"])
    restart = asyncio.create_task(command.tell())
    await until(lambda: bool(restarting))
    command.end(signal.SIGTERM)
    assert await running == 5
    await restart
    assert "killing" not in " ".join(said)


async def test_its_end_by_itself_is_the_end(tmp_path: Path) -> None:
    command = Command(["sh", "-c", "sleep 0.2; exit 4"], reload=signal.SIGHUP)
    assert await command.run() == 4
    assert command.pid is None
    command.send(signal.SIGTERM)  # to no process


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel must offer it")
async def test_it_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from cfgsync_runtime.program.command import Command\n"
        "asyncio.run(Command(sys.argv[1:]).run())\n"
    )
    told = Told(tmp_path / "log", on_term="")
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, *told.words)
    await until(lambda: told.said == ["start"])
    (pid,) = told.pids
    parent.kill()
    await parent.wait()
    await until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


async def test_the_environment_can_be_another_and_signals_ignored_by_python_are_not_by_it(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    words = ["sh", "-c", f'echo "$CFGSYNC_TEST" > {out}; grep SigIgn /proc/self/status >> {out}']
    began = time.monotonic()
    environment = {"PATH": os.environ["PATH"], "CFGSYNC_TEST": "here"}
    assert await Command(words, environment=environment).run() == 0
    said, ignored = out.read_text().splitlines()
    assert said == "here"
    assert int(ignored.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0
    assert time.monotonic() - began < 20


WRAPPER = """
sh -c 'echo child $$ >> "$0"; trap "{on_term}" TERM; while :; do sleep 0.02; done' "$0" &
echo start $$ >> "$0"
wait
"""


class Wrapped(Told):
    """A shell around a program: SIGTERM ends the shell at once, and the program as `on_term` says."""

    def __init__(self, log: Path, on_term: str = "exit 0") -> None:
        super().__init__(log)
        self.words = ["sh", "-c", WRAPPER.format(on_term=on_term), str(log)]

    @property
    def children(self) -> list[int]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith("child")]


async def test_a_restart_ends_all_that_the_program_has_started_before_the_next_one_begins(
    tmp_path: Path,
) -> None:
    told = Wrapped(tmp_path / "log")
    command = Command(told.words)
    running = asyncio.create_task(command.run())
    await until(lambda: len(told.children) == 1)
    await command.tell()
    await until(lambda: len(told.children) == 2)
    assert [_runs(pid) for pid in told.children] == [False, True]
    command.end(signal.SIGTERM)
    assert await running == 143
    assert not any(_runs(pid) for pid in told.children)


async def test_what_a_program_leaves_behind_at_a_restart_is_killed_and_at_the_end_is_waited_for(
    tmp_path: Path,
) -> None:
    told = Wrapped(tmp_path / "log", on_term="sleep 1.5; exit 0")
    said: list[str] = []
    command = Command(told.words, grace=0.3, say=said.append)
    running = asyncio.create_task(command.run())
    await until(lambda: len(told.children) == 1)
    await command.tell()
    assert said == ["sh did not end within 0.3 s of SIGTERM; killing it"]
    await until(lambda: len(told.children) == 2)
    assert not _runs(told.children[0])
    began = time.monotonic()
    command.end(signal.SIGTERM)
    assert await running == 143
    assert time.monotonic() - began > 1, "the program behind the wrapper had not ended"
    assert "still runs" in said[-1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc says what a process handles")
async def test_a_reload_signal_waits_until_the_program_handles_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = 'sleep 0.7; trap \'echo hup >> "$0"\' HUP; echo ready >> "$0"; while :; do sleep 0.02; done'
    command = Command(["sh", "-c", script, str(log)], reload=signal.SIGHUP)
    running = asyncio.create_task(command.run())
    await until(lambda: command.pid is not None)
    first = command.pid
    await command.tell()
    await until(lambda: log.exists() and "hup" in log.read_text())
    assert command.pid == first, "SIGHUP would have ended it before it had a handler"
    command.end(signal.SIGTERM)
    await running


async def test_a_program_that_blocks_its_reload_signal_and_looks_for_it_gets_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = (
        "import signal, sys, time; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])\n"
        "while signal.SIGHUP not in signal.sigpending(): time.sleep(0.02)\n"
        "open(sys.argv[1], 'w').write('hup')"
    )
    command = Command([sys.executable, "-c", script, str(log)], reload=signal.SIGHUP)
    running = asyncio.create_task(command.run())
    await until(lambda: command.pid is not None)
    await command.tell()
    await until(lambda: log.exists() and log.read_text() == "hup")
    assert await running == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc says what a process handles")
async def test_a_program_without_a_handler_for_its_reload_signal_is_restarted_and_that_is_said(
    tmp_path: Path,
) -> None:
    log, said = tmp_path / "log", []
    words = ["sh", "-c", 'echo start >> "$0"; exec sleep 60', str(log)]
    command = Command(words, reload=signal.SIGHUP, handler_within=0.3, say=said.append)
    running = asyncio.create_task(command.run())
    await until(lambda: log.exists())
    await command.tell()
    await until(lambda: log.read_text().count("start") == 2)
    assert said == ["sh has no handler for SIGHUP after 0.3 s; restarting it instead"]
    command.end(signal.SIGTERM)
    assert await running == 143


async def test_a_program_on_a_terminal_stays_in_our_process_group(tmp_path: Path) -> None:
    for shares in (True, False):
        log = tmp_path / f"log-{shares}"
        words = ["sh", "-c", f"ps -o pgid= -p $$ > {log}"]
        assert await Command(words, shares=shares).run() == 0
        assert (int(log.read_text()) == os.getpgrp()) is shares
