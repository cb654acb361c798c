"""Whatever a materializer does to itself: its last good files are served, the server answers, and says what is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import BIN, PATIENCE, Place, Server, body, eventually

HERE = Path(__file__).parent
DEADLINE = 1.5
FAILED = "failed to materialize config snapshot: "
LATE = f"no answer within {DEADLINE} s"


@pytest.fixture
def server(place: Place) -> Server:
    return place.serve(
        *("obeys:Obeys", "--run-timeout", str(DEADLINE), "--store", "memory:"),
        cwd=HERE,
        environment={"PIDS": str(place.directory / "pids")},
    )


def register(server: Server, identifier: str, do: str | None = None) -> None:
    metadata = None if do is None else {"do": do}
    assert server.ask("POST", "/register", body(identifier, metadata)).status == 202


def pids(place: Place) -> list[int]:
    """Every process that ran the materializer, or was started by it, once."""
    return list(dict.fromkeys(map(int, (place.directory / "pids").read_text().split())))


def is_gone(pid: int) -> bool:
    """True when no such process runs; one that waits to be reaped by a stranger does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def members(group: int) -> list[int]:
    """Every living process of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
            if int(of) == group and state != "Z":
                found.append(int(stat.parent.name))
    return found


def livez_until(server: Server, sentence: str) -> list[float]:
    """How long `/livez` took each time, until the status says `sentence`."""
    took = []
    until = time.monotonic() + PATIENCE
    while sentence not in (reason := server.status()["reason"]):
        assert time.monotonic() < until, reason
        began = time.monotonic()
        assert server.ask("GET", "/livez").status == 200
        took.append(time.monotonic() - began)
        time.sleep(0.01)
    return sorted(took) or [0.0]


@pytest.mark.parametrize(
    ("do", "sentence", "at_the_deadline"),
    [
        pytest.param("loop", LATE, True, marks=pytest.mark.timed),
        pytest.param("regex", LATE, True, marks=pytest.mark.timed),
        ("throw", "RuntimeError in obeys.py", False),
        ("end", "its process ended with exit code 3", False),
        ("leave", "SystemExit in obeys.py", False),
        ("twice", "/names", False),
        ("illegal", "materialize_snapshot returned dict", False),
        ("nul", "InvalidArtifact in obeys.py", False),
        ("outside", "'/../../etc/x': illegal path: component '..'", False),
        ("crowd", "this node is given 1001 files, it takes 1000", False),
        ("nothing", "this node is given no files", False),
        ("misnamed", "'bad id/..': no node has this name", False),
        ("strangers", "leaves out 1 of the 1 registered nodes", False),
        ("mute", "Mute", False),
        ("shout", "RuntimeError in obeys.py", False),
        ("fork", "its process ended with exit code 3", False),
    ],
)
def test_the_last_good_files_are_served_and_the_fault_is_named(
    place: Place, server: Server, do: str, sentence: str, at_the_deadline: bool
) -> None:
    register(server, "node-1")
    good = server.ask("POST", "/node", body("node-1"))
    assert good.status == 200
    began = time.monotonic()
    register(server, "node-2", do)
    took = livez_until(server, sentence)
    named_after = time.monotonic() - began
    if at_the_deadline:
        assert took[len(took) * 9 // 10] < 0.1, (
            took
        )  # all but a tenth: this machine has other things to do, too
        assert DEADLINE <= named_after < DEADLINE + 2
    again = server.ask("POST", "/node", body("node-1"))
    assert (again.status, again.body) == (200, good.body)
    assert again.headers["cfgsync-generation"] == good.headers["cfgsync-generation"]
    failed = server.ask("POST", "/node", body("node-2"))
    assert (failed.status, failed.words["code"]) == (500, "internal")
    assert failed.words["message"].startswith(FAILED)
    assert sentence in failed.words["message"]
    register(server, "node-2")
    assert b"node-1,node-2" in server.ask("POST", "/node", body("node-2")).body
    assert server.status()["reason"] == ""
    assert server.stop() == 0
    assert "/cfgsync_" not in server.log, "a frame of ours"
    assert all(is_gone(pid) for pid in pids(place))
    assert server.process.stdout is not None
    assert server.process.stdout.read() == ""


@pytest.mark.parametrize(
    ("do", "sentence"),
    [
        ("huge", "the shared content is 1073741824 bytes, a node takes 16777216"),
        ("many", "the files of all nodes are 550"),
    ],
)
def test_a_gigabyte_never_reaches_the_server(place: Place, do: str, sentence: str) -> None:
    server = place.serve(
        *("obeys:Obeys", "--store", "memory:"),
        cwd=HERE,
        environment={"PIDS": str(place.directory / "pids")},
    )
    register(server, "node-1")
    good = server.ask("POST", "/node", body("node-1")).body
    register(server, "node-2", do)
    took = livez_until(server, sentence)
    assert took[len(took) // 2] < 0.5, took
    assert server.ask("POST", "/node", body("node-1")).body == good
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    assert peak_kib < 200 * 1024
    assert server.stop() == 0


def test_a_child_that_somebody_kills_is_replaced(place: Place, server: Server) -> None:
    register(server, "node-1")
    assert server.ask("POST", "/node", body("node-1")).status == 200
    os.kill(pids(place)[0], signal.SIGKILL)  # while it is idle: nobody need notice
    eventually(lambda: is_gone(pids(place)[0]))
    time.sleep(0.1)
    register(server, "node-2")
    assert server.ask("POST", "/node", body("node-2")).status == 200
    register(server, "node-3", "sleep")
    time.sleep(0.3)
    os.kill(pids(place)[1], signal.SIGKILL)  # while it decides
    livez_until(server, "its process was ended by SIGKILL")
    register(server, "node-3")
    assert b"node-1,node-2,node-3" in server.ask("POST", "/node", body("node-3")).body


@pytest.mark.parametrize("do", ["loop", "regex", None])
def test_a_server_that_is_killed_leaves_no_child_behind(place: Place, server: Server, do: str | None) -> None:
    register(server, "node-1", do)
    eventually(lambda: bool(pids(place)) if (place.directory / "pids").exists() else False)
    (child,) = pids(place)
    assert not is_gone(child)
    server.kill()
    eventually(lambda: is_gone(child), within=2)


@pytest.mark.parametrize("do", ["brood", "brood_and_loop"])
def test_a_server_that_is_killed_leaves_nothing_behind_of_what_the_materializer_started(
    place: Place, server: Server, do: str
) -> None:
    register(server, "node-1", do)
    eventually(lambda: (place.directory / "pids").exists() and len(pids(place)) == 3)
    group = pids(place)[0]
    eventually(lambda: len(members(group)) == 4)
    server.kill()
    eventually(lambda: not members(group), within=2)


@pytest.mark.timed
def test_sigterm_ends_both_at_once_in_the_middle_of_a_run(place: Place, server: Server) -> None:
    register(server, "node-1", "regex")
    eventually((place.directory / "pids").exists)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 1.4
    assert all(is_gone(pid) for pid in pids(place))
    assert "Traceback" not in server.log


@pytest.mark.parametrize("do", ["loop", None])
def test_ctrl_c_in_a_terminal_is_the_servers_alone(place: Place, do: str | None) -> None:
    log = place.directory / "stderr"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [BIN / "cfgsync", "serve", "obeys:Obeys", "--port", "0", "--store", "memory:"],
            cwd=HERE,
            env=place.environment({"PIDS": str(place.directory / "pids")}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().partition(" on ")[2].split(",")[0]
        register(Server(process, url, "", log), "node-1", do)
        eventually((place.directory / "pids").exists)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert all(is_gone(pid) for pid in pids(place))
    assert "Traceback" not in log.read_text()


def test_what_cannot_be_loaded_is_two_lines_and_exit_2(place: Place) -> None:
    place.write("broken.py", "import os\nport = 1 // 0\nclass Mine: ...\n")
    done = place.run("serve", "broken:Mine", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    what, hint = done.stderr.splitlines()
    assert what.startswith("importing broken failed: ")
    assert what.endswith("broken.py:2: ZeroDivisionError: integer division or modulo by zero")
    assert hint.endswith("broken.py:2")
