"""What `cfgsync fetch` says decides nothing: not whether files are written, nor whether a command starts, nor how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile, locked_directory
from tests.scripted_server import Heard, Says, ScriptedServer, files

EPOCH = "0000000f-4240-7000-8000-000000000000"
COMMAND = (sys.executable, "-c", "from cfgsync_runtime.cli import main; main()")


def ready(heard: Heard) -> Says:
    if heard.path == "/register":
        return Says(202, headers={"Cfgsync-Version": f"{EPOCH}.1"})
    return files([ArtifactFile("/config.yaml", "id: node-1\n")], f"{EPOCH}.3")


def illegal(heard: Heard) -> Says:
    if heard.path == "/register":
        return Says(202, headers={"Cfgsync-Version": f"{EPOCH}.1"})
    return files([ArtifactFile("/../etc/x", "id: node-1\n")], f"{EPOCH}.3")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CFGSYNC_")}
    return {**kept, "XDG_STATE_HOME": str(tmp_path / "xdg")}


def gone() -> int:
    ours, theirs = os.pipe()
    os.close(ours)
    return theirs


UNREAD: list[int] = []


def unread() -> int:
    ours, theirs = os.pipe()
    UNREAD.append(ours)
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    os.write(theirs, b"x" * 4096)
    return theirs


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.fixture(autouse=True)
def _read_no_more() -> Iterator[None]:
    yield
    while UNREAD:
        os.close(UNREAD.pop())


@pytest.mark.parametrize("sink", [gone, unread, full, None], ids=["gone", "unread", "full", "closed"])
@pytest.mark.parametrize("which", [(1,), (2,), (0, 1, 2)], ids=["stdout", "stderr", "all"])
@pytest.mark.parametrize("words", [[], ["--json"]], ids=["plain", "json"])
def test_no_line_keeps_files_from_being_written_or_a_command_from_starting(
    tmp_path: Path,
    environment: dict[str, str],
    sink: Callable[[], int] | None,
    which: tuple[int, ...],
    words: list[str],
) -> None:
    descriptors = {fd: sink() for fd in which if fd} if sink is not None else {}

    def prepare() -> None:
        for fd in which:
            if fd in descriptors:
                os.dup2(descriptors[fd], fd)
            else:
                os.close(fd)

    with ScriptedServer(ready) as server:
        done = subprocess.run(
            [
                *COMMAND,
                "fetch",
                "--server",
                server.url,
                "--id",
                "n",
                "--out",
                "o",
                *words,
                "--",
                "sh",
                "-c",
                "echo ran >ran; exit 42",
            ],
            cwd=tmp_path,
            env=environment,
            preexec_fn=prepare,
            timeout=60,
            check=False,
        )
        failed = subprocess.run(
            [*COMMAND, "fetch", "--server", server.url, "--id", "n", "--route", "/other=o", *words],
            cwd=tmp_path,
            env=environment,
            preexec_fn=prepare,
            timeout=60,
            check=False,
        )
    for fd in descriptors.values():
        os.close(fd)
    assert (done.returncode, failed.returncode) == (42, 2)
    assert (tmp_path / "ran").exists()
    assert (tmp_path / "o/current/config.yaml").read_bytes() == b"id: node-1\n"
    assert [heard.path for heard in server.heard].count("/ack") == 1


def test_nothing_is_written_into_a_file_that_got_the_number_of_a_closed_descriptor(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with ScriptedServer(illegal) as server:
        done = subprocess.run(
            [
                "sh",
                "-c",
                'exec "$@" <&- >&- 2>&-',
                "sh",
                *COMMAND,
                "fetch",
                "--server",
                server.url,
                "--id",
                "n",
                "--out",
                "o",
                "--json",
            ],
            cwd=tmp_path,
            env=environment,
            timeout=60,
            check=False,
        )
    assert done.returncode == 6
    assert all("{" not in heard.path for heard in server.heard)
    assert server.heard[-1].path == "/ack"


def test_a_command_that_cannot_be_run_after_all_is_126_although_nobody_reads(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "broken").write_text("\0\0\0\0")
    (tmp_path / "broken").chmod(0o755)
    with ScriptedServer(ready) as server:
        done = subprocess.run(
            [*COMMAND, "fetch", "--server", server.url, "--id", "n", "--out", "o", "--", "./broken"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=gone(),
            timeout=60,
            check=False,
        )
    assert done.returncode == 126


def test_a_place_that_is_not_utf_8_is_escaped_for_people_and_replaced_in_json(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    out = b"o-\xff"
    with ScriptedServer(ready) as server:
        fetch = [*COMMAND, "fetch", "--server", server.url, "--id", "n"]
        done = subprocess.run(
            [*fetch, "--out", out, "--json", "--", "true"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["files"] == ["o-?/current/config.yaml"]
        assert (os.fsencode(tmp_path) + b"/o-\xff/current/config.yaml") in [
            os.fsencode(path) for path in tmp_path.glob("o*/current/*")
        ]
        current = os.path.join(os.fsencode(tmp_path), out, b"current")
        os.unlink(current)
        os.mkdir(current)
        refused = subprocess.run(
            [*fetch, "--out", out],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert refused.returncode == 8
    assert refused.stderr.startswith(b"o-\\xff/current was not made by cfgsync")
    assert server.heard[-1].path == "/ack", "the failure was acknowledged"
    assert b"o-?/current" in server.heard[-1].body


def test_a_name_in_the_payload_is_utf_8_on_disk_whatever_the_locale_is(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    def named(heard: Heard) -> Says:
        return (
            ready(heard) if heard.path == "/register" else files([ArtifactFile("/naïve", "x")], f"{EPOCH}.3")
        )

    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with ScriptedServer(named) as server:
        done = subprocess.run(
            [*COMMAND, "fetch", "--server", server.url, "--id", "n", "--out", "o", "--json"],
            cwd=tmp_path,
            env={**environment, **ascii_only},
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert os.listdir(os.fsencode(tmp_path / "o" / "current")) == ["naïve".encode()]


def test_the_originals_client_ends_right_without_anybody_who_reads(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    client = "from cfgsync_runtime.cli.dropins.client import main; main()"
    with ScriptedServer(ready) as server:
        for close in ("<&- >&- 2>&-", ">/dev/full 2>&1"):
            done = subprocess.run(
                ["sh", "-c", f'exec "$@" {close}', "sh", sys.executable, "-c", client],
                cwd=tmp_path,
                env={**environment, "CFG_SERVER_ADDR": server.url, "CFG_FILE_PATH": "c"},
                timeout=60,
                check=False,
            )
            assert done.returncode == 0
            assert (tmp_path / "c").read_text() == "id: node-1\n"
            (tmp_path / "c").unlink()


def test_a_fetch_waits_for_another_one_within_its_wait(tmp_path: Path, environment: dict[str, str]) -> None:
    def fetch(wait: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "fetch", "--server", server.url, "--id", "n", "--out", "o", "--wait", wait],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    (tmp_path / "o" / ".generations").mkdir(parents=True)
    with ScriptedServer(ready) as server, locked_directory(str(tmp_path / "o" / ".generations")):
        busy = fetch("1")
    assert (busy.returncode, len(busy.stderr.splitlines())) == (8, 3)
    assert busy.stderr.startswith("waiting: another writer")
    with ScriptedServer(ready) as server, locked_directory(str(tmp_path / "o" / ".generations")) as lock:
        threading.Timer(1.5, lock.release).start()
        assert fetch("30").returncode == 0
