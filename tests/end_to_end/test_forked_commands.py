"""A forked command (tests/forks.py) is for a test what a started one is: these run both ways."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forks import ForkedCommand
from tests.processes import BIN, Place, ended, eventually

HERE = Path(__file__).parent
WAITING = ("fetch", "--server", "http://127.0.0.1:1", "--id", "a", "--out", "out", "--wait", "60")


@pytest.fixture(params=["forked", "started"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "forked" and os.environ.get("CFGSYNC_TESTS_EXEC"):
        pytest.skip("CFGSYNC_TESTS_EXEC forbids forks")
    with Place(tmp_path / "place", forks=request.param == "forked") as made:
        process, _ = made.start("--help")
        assert isinstance(process, ForkedCommand) == (request.param == "forked")
        yield made


def test_a_server_and_a_node_run_and_end(place: Place) -> None:
    server = place.serve("application:Fleet", "--store", "memory:", cwd=HERE, environment={"NODES": "1"})
    code, said = ended(place.fetch(server.url, "a", "--wait", "60"))
    assert (code, said["status"]) == (0, "ready")
    assert place.current("a").is_dir()
    shown = place.run("status", "--server", server.url)
    assert (shown.returncode, shown.stdout.splitlines()[0]) == (0, "generation 1, 1 registered, 1 applied")
    assert server.stop() == 0
    assert "SIGTERM: shutting down" in server.log


def test_arguments_and_variables_are_its_own(place: Place) -> None:
    wrong = place.run("serve", "app:Mine", "--such", environment={"CFGSYNC_SERVE_PORT": "many"})
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--such" in wrong.stderr
    variable = place.run("serve", "app:Mine", environment={"CFGSYNC_SERVE_PORT": "many"})
    assert variable.returncode == 2
    assert "CFGSYNC_SERVE_PORT" in variable.stderr
    assert "CFGSYNC_SERVE_PORT" not in place.run("serve", "app:Mine").stderr


def test_it_is_our_child_and_a_signal_is_its_return_code(place: Place) -> None:
    process, log = place.start(*WAITING)
    eventually(lambda: "waiting" in log.read_text())
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert f"PPid:\t{os.getpid()}\n" in status
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert process.communicate()[0] == ""


def test_ctrl_c_and_descriptors_are_those_of_a_start(place: Place) -> None:
    process, log = place.start(*WAITING)
    eventually(lambda: "waiting" in log.read_text())
    opened = {
        int(name): os.readlink(f"/proc/{process.pid}/fd/{name}")
        for name in os.listdir(f"/proc/{process.pid}/fd")
    }
    assert [opened[0], opened[2]] == ["/dev/null", str(log)]
    assert opened[1].startswith("pipe:")
    assert not [
        name for number, name in opened.items() if number > 2 and name.startswith(("pipe:", "socket:"))
    ]
    assert os.readlink(f"/proc/{process.pid}/cwd") == str(place.directory)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130


def test_a_node_becomes_its_program(place: Place) -> None:
    server = place.serve("application:Fleet", "--store", "memory:", cwd=HERE, environment={"NODES": "1"})
    masks = "grep -E 'SigBlk|SigIgn' /proc/self/status"
    words = place.fetching(server.url, "a", "--", "sh", "-c", f"echo $$; exec {masks}")
    process, _ = place.start(*words)
    _, pid, *said = process.communicate()[0].splitlines()
    started = subprocess.run([*masks.replace("'", "").split()], capture_output=True, text=True, check=True)
    assert [int(pid), *said] == [process.pid, *started.stdout.splitlines()]


def test_it_has_the_limits_and_the_umask_that_the_test_has_now(place: Place) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    umask = os.umask(0o027)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        process, log = place.start(*WAITING)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.umask(umask)
    eventually(lambda: "waiting" in log.read_text())
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (soft - 1, hard)
    assert "Umask:\t0027\n" in Path(f"/proc/{process.pid}/status").read_text()


def test_a_variable_that_an_interpreter_reads_is_only_for_a_start(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, _ = place.start("--help", environment={"PYTHONUTF8": "0"})
    assert type(process) is subprocess.Popen
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    third, _ = place.start("--help")
    assert type(third) is subprocess.Popen
    other, _ = place.start("-c", "print('of Python')", command="python")
    assert type(other) is subprocess.Popen
    assert other.communicate()[0] == "of Python\n"
    assert (BIN / "cfgsync").exists()
