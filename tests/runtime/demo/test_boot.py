"""`cfgsync demo` as a process: what it prints is true, it ends with 0, and it leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cfgsync_artifacts import CfgsyncError
from cfgsync_runtime.demo.boot import Lines, boot
from tests.postgres import Postgres
from tests.postgres import postgres as postgres

CFGSYNC = Path(sys.executable).with_name("cfgsync")


@pytest.fixture
def place(tmp_path):
    """A directory to run in, with an empty one for what is temporary; CFGSYNC_… of the caller must not matter."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the current directory was imported')")
    return tmp_path


def demo(place: Path, *words: str, **environ: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [CFGSYNC, "demo", *words],
        cwd=place,
        env={**os.environ, "TMPDIR": str(place / "tmp"), "XDG_STATE_HOME": str(place / "state"), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_demo_boots_every_node_says_each_step_and_leaves_nothing_behind(place):
    with demo(place, "--nodes", "8", CFGSYNC_SECRET_FILE="/nowhere", CFGSYNC_OUT="/nowhere") as running:
        said, complained = running.communicate(timeout=60)
    assert (running.returncode, complained) == (0, "")
    assert "\x1b" not in said
    assert "8 nodes, one machine: 5 are `cfgsync fetch` processes, 3 are tasks of this process" in said
    for step in (
        r"s  server up: http://127\.0\.0\.1:\d+, registrations in SQLite \(server\.db\)",
        r"s  not ready: 7 of 8 nodes, missing node-8; 7 wait, each in one held request",
        r"s  ready: generation 1, made from 8 registrations",
        r"s  8 payloads fetched, 16 files on disk \([\d,]+ bytes\), each compared",
        r"s  every node has generation 2: 16 files compared again",
        r"── node-1/current -> \.generations/2",
        r"── … 5 more nodes, each with 2 files",
        r"8 of 8 nodes booted in \d+\.\d s",
    ):
        assert re.search(step, said), said
    assert sorted(path.name for path in place.iterdir()) == ["json.py", "tmp"]
    assert list((place / "tmp").iterdir()) == []


def test_one_node_is_a_demo_too_and_its_files_can_be_kept(place):
    with demo(place, "--nodes", "1", "--keep", "fleet") as running:
        said, complained = running.communicate(timeout=60)
    assert (running.returncode, complained) == (0, "")
    assert said.endswith("its files are in fleet\n")
    assert (place / "fleet/node-1/current/node.yaml").read_text() == "id: node-1\nlisten: 10.0.0.1:7001\n"


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["--keep", "."], 2, "is not empty"),
        (["--keep", "json.py/below"], 1, "Not a directory"),
        (["--nodes", "0"], 2, "--nodes"),
    ],
)
def test_what_cannot_be_done_is_two_lines(place, words, code, what):
    with demo(place, *words) as running:
        _, complained = running.communicate(timeout=60)
    assert running.returncode == code
    assert what in complained
    assert len(complained.splitlines()) == 2


def test_a_terminated_demo_ends_its_processes_and_leaves_nothing_behind(place):
    with demo(place, "--nodes", "6") as running:
        assert running.stdout is not None
        while "not ready" not in running.stdout.readline():
            pass
        running.send_signal(signal.SIGTERM)
        _, complained = running.communicate(
            timeout=60
        )  # returns when no process has its output open any more
    assert (running.returncode, complained) == (143, "")
    assert list((place / "tmp").iterdir()) == []


@pytest.mark.parametrize("broken", ["node-1", "node-6"], ids=["a process", "a task"])
async def test_a_node_that_fails_ends_the_demo_with_what_it_said(tmp_path, broken):
    (tmp_path / broken).write_text("a file where the node's directory has to be")
    with pytest.raises(CfgsyncError, match=r"(?i)not a directory") as failed:
        await boot(6, str(tmp_path), Lines(lambda _: None))
    assert getattr(failed.value, "hint", "")


def test_a_fleet_boots_across_three_servers_of_which_one_is_killed(place: Path, postgres: Postgres) -> None:
    url = postgres.url()
    with demo(place, "--nodes", "12", "--servers", "3", "--store", url) as running:
        said, complained = running.communicate(timeout=120)
    assert (running.returncode, complained) == (0, "")
    for step in (
        r"s  3 servers up on postgresql://127\.0\.0\.1:\d+/postgres\?schema=\w+: http://\S+, http://\S+, http://\S+",
        r"s  http://127\.0\.0\.1:\d+ is killed \(kill -9\): its nodes ask another server",
        r"s  12 payloads fetched, 24 files on disk",
        r"s  every node has generation 2: 24 files compared again",
    ):
        assert re.search(step, said), said
    assert list((place / "tmp").iterdir()) == []
    with demo(place, "--store", url) as again:
        _, complained = again.communicate(timeout=60)
    assert again.returncode == 1
    assert "holds a fleet already" in complained


def test_several_servers_without_a_store_that_they_can_share_are_refused(place: Path) -> None:
    with demo(place, "--servers", "2") as running:
        _, complained = running.communicate(timeout=60)
    assert running.returncode == 1
    assert complained.splitlines()[0] == "several servers need a store that they can share"
