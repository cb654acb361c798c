"""The operator's check sees new files before the switch; real shells, real directories."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile
from cfgsync_runtime.node.check import Check, CheckRefused, checked_write
from cfgsync_runtime.node.outputs import ArtifactOutputMap, OutputDirectory
from cfgsync_runtime.program.shell_line import LineEnd, run_line
from tests.processes import PATIENCE, eventually

ONE = (ArtifactFile("/etc/app.conf", "one\n"), ArtifactFile("/b", "b"))
ROOT = Path(__file__).parents[3]
TWO = (ArtifactFile("/etc/app.conf", "two\n"), ArtifactFile("/b", "b"))


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.fixture(params=["directory", "routes"])
def outputs(request: pytest.FixtureRequest, tmp_path: Path) -> OutputDirectory | ArtifactOutputMap:
    if request.param == "directory":
        return OutputDirectory(str(tmp_path / "out"))
    return ArtifactOutputMap().route("/etc/app.conf", tmp_path / "x/conf").route("/b", tmp_path / "b")


def test_a_refusal_keeps_the_old_files_and_leaves_nothing_behind(
    outputs: OutputDirectory | ArtifactOutputMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    line = 'echo checking; grep -q one "$CFGSYNC_STAGED/etc/app.conf" && test -e "$CFGSYNC_STAGED/b"'
    assert checked_write(outputs, ONE, Check(line)).changed
    before = tree(tmp_path)
    with pytest.raises(
        CheckRefused, match=r"--check refused the files: exit code 1; its last words: checking"
    ):
        checked_write(outputs, TWO, Check(line))
    with pytest.raises(CheckRefused) as refused:
        checked_write(outputs, TWO, Check("echo hunter2; false"))
    assert refused.value.for_others == "--check refused the files: exit code 1", "others read no words of it"
    assert tree(tmp_path) == before
    assert outputs.plan(ONE).paths == outputs.plan(TWO).paths
    assert Path(outputs.plan(ONE).paths[0]).read_text() == "one\n"


@pytest.mark.parametrize(
    "change",
    ["echo mine >> etc/app.conf", "touch left-over", "rm b", "chmod 600 b", "mv b c; ln -s c b"],
)
def test_what_a_check_has_changed_is_not_installed(tmp_path: Path, change: str) -> None:
    outputs = OutputDirectory(str(tmp_path / "out"))
    checked_write(outputs, ONE, None)
    with pytest.raises(CheckRefused, match="--check changed the files that it was given"):
        checked_write(outputs, TWO, Check(f'cd "$CFGSYNC_STAGED" && {change}'))
    assert Path(outputs.plan(ONE).paths[0]).read_text() == "one\n"
    assert checked_write(outputs, TWO, Check('cat "$CFGSYNC_STAGED/b"')).changed


def test_files_in_place_are_not_checked_again(outputs: OutputDirectory | ArtifactOutputMap) -> None:
    checked_write(outputs, ONE, None)
    assert not checked_write(outputs, ONE, Check("false")).changed


def test_the_staged_files_are_private_and_the_environment_holds_no_secret_of_ours(
    outputs: OutputDirectory | ArtifactOutputMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFGSYNC_TOKEN", "hush")
    monkeypatch.setenv("CFGSYNC_TOKEN_FILE", "/where")
    seen = tmp_path / "seen"
    line = f'pwd > {seen}; stat -c %a "$CFGSYNC_STAGED" >> {seen}; echo "$CFGSYNC_TOKEN/$CFGSYNC_TOKEN_FILE" >> {seen}'
    checked_write(outputs, ONE, Check(line))
    where, mode, token = seen.read_text().splitlines()
    assert (where, token) == (os.getcwd(), "//where")
    assert mode == ("755" if isinstance(outputs, OutputDirectory) else "700")


def test_a_line_that_does_not_end_is_killed_with_all_that_it_started_and_its_last_words_are_kept(
    tmp_path: Path,
) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    said = run_line(
        f"yes | head -c 300000; echo; echo last; sleep 60 & echo $! > {pid}; wait", dict(os.environ), 0.5
    )
    assert time.monotonic() - began < 20
    assert said.wrong == "it did not end within 0.5 s"
    assert said.words.endswith(" last")
    assert len(said.words) < 450
    eventually(lambda: not _runs(int(pid.read_text())))


def test_a_line_that_leaves_a_process_with_its_output_behind_does_not_hold_us_up() -> None:
    began = time.monotonic()
    assert run_line("sleep 5 & exit 0", dict(os.environ)) == LineEnd()
    assert run_line("sleep 5 & exit 4", dict(os.environ)) == LineEnd("exit code 4")
    assert run_line("kill -9 $$", dict(os.environ)) == LineEnd("exit code 137")
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_ends_a_fetch_ends_its_check_too_and_leaves_no_copy_of_the_files(
    outputs: OutputDirectory | ArtifactOutputMap, tmp_path: Path, number: int
) -> None:
    (tmp_path / "temporary").mkdir()
    pid = tmp_path / "pid"
    checking = (
        "from tests.runtime.node.test_check import *\n"
        f"checked_write({_code_of(outputs, tmp_path)}, ONE, Check('sleep 60 & echo $! > {pid}.new; mv {pid}.new {pid}; wait'))"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen(
        [sys.executable, "-c", checking], env=environment, cwd=ROOT, stderr=subprocess.DEVNULL
    ) as process:
        eventually(pid.exists)
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number, "it ends by the signal, so that a service manager knows"
    eventually(lambda: not _runs(int(pid.read_text())))
    assert [path for path in tree(tmp_path) if path.endswith(("b", "conf"))] == []


def _code_of(outputs: OutputDirectory | ArtifactOutputMap, at: Path) -> str:
    if isinstance(outputs, OutputDirectory):
        return f"OutputDirectory({outputs.directory!r})"
    return f"ArtifactOutputMap().route('/etc/app.conf', '{at}/x/conf').route('/b', '{at}/b')"


def _runs(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"
