"""Wrong use of `cfgsync fetch` is refused before a server is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cfgsync_artifacts import Owner
from cfgsync_runtime.cli import main
from cfgsync_runtime.cli.parts.fetch.flags import UnusableFlag
from cfgsync_runtime.cli.parts.fetch.places import owner_of
from tests.runtime.cli.test_unwritable_lines import ready
from tests.scripted_server import ScriptedServer

COMMAND = (sys.executable, "-c", "from cfgsync_runtime.cli import main; main()")


@pytest.fixture
def fetch(tmp_path: Path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CFGSYNC_")}

    def fetch(*words: str, url: str = "http://127.0.0.1:1", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "fetch", "--server", url, "--id", "n", *words],
            cwd=tmp_path,
            env={**kept, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "xdg"), **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return fetch


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["--out", "file"], 2, "file is not a directory"),
        (["--out", "file/below/it"], 2, "file is not a directory"),
        (["--out", "dangling"], 2, "dangling is not a directory"),
        (["--route", "/c=missing/c"], 2, "there is no directory missing"),
        (["--route", "/c=file/c"], 2, "there is no directory file"),
        (["--route", "/c=dir"], 2, "'dir' is a directory"),
        (["--route", "/c=dir/"], 2, "'dir/' is a directory"),
        (["--route", "config.yaml=x"], 2, "PATH begins with a slash: /config.yaml=x"),
        (["--route", "/c=x", "--keep", "1"], 2, "it is for --out only"),
        (["--out", "o", "--keep", "-1"], 2, "--keep"),
        (["--out", "o", "--chown", "no-such-user"], 2, "there is no user 'no-such-user'"),
        (["--out", "o", "--chown", "4294967295"], 2, "there is no user '4294967295'"),
        (["--out", "o", "--chown", "root:99999999999"], 2, "there is no group '99999999999'"),
        (["--out", "o", "--chown", "root:no-such-group"], 2, "there is no group 'no-such-group'"),
        (["--out", "o", "--chown", ":"], 2, "is not USER or USER:GROUP"),
        (["--out", "o", "--metadata", '{"a": 1, "a": 1}'], 2, "the key 'a' is given twice"),
        (["--out", "o", "--metadata", '[{"x": {"b": 1, "c": 2, "b": 3}}]'], 2, "the key 'b' is given twice"),
        (["--out", "o", "--", "no-such-program-here"], 127, "command not found"),
        (["--out", "o", "--watch", "--", "./no-such-program"], 127, "command not found"),
        (["--route", "/c=x", "--", "./file"], 126, "permission denied"),
        (["--out", "o", "--", "dir/"], 126, "permission denied"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    for name in [name for name in os.environ if name.startswith("CFGSYNC_")]:
        monkeypatch.delenv(name)
    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    with ScriptedServer(ready) as server, pytest.raises(SystemExit) as ended:
        main(["fetch", "--server", server.url, "--id", "n", *words])
    said = capsys.readouterr().err
    assert ended.value.code == code
    assert why in said
    assert len(said.splitlines()) == 2
    assert server.heard == []
    assert sorted(os.listdir(tmp_path)) == ["dangling", "dir", "file"]


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["--out", "o", "--", "o/current/config.yaml"], {}),
        (["--out", "o", "--", "config.yaml"], {"PATH": "o/current:/usr/bin"}),
        (["--route", "/config.yaml=run", "--", "./run"], {}),
    ],
)
def test_a_command_that_comes_with_the_files_is_not_missing_before(fetch, words, environment) -> None:
    with ScriptedServer(ready) as server:
        done = fetch(*words, url=server.url, **environment)
    assert done.returncode == 126, "written, and then no program"
    assert "the files are in place" in done.stderr


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("root", Owner(0)),
        ("0:0", Owner(0, 0)),
        ("root:", Owner(0, 0)),
        (":0", Owner(group=0)),
        ("12345:54321", Owner(12345, 54321)),
        (None, Owner()),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: giving files to others needs root")
def test_an_owner_is_a_name_or_a_number(text: str | None, owner: Owner) -> None:
    assert owner_of(text) == owner


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: it takes the right away from itself")
def test_an_owner_that_this_user_may_not_give_files_to_is_refused() -> None:
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(1001)
        os.setuid(1001)
        try:
            owner_of("root")
        except UnusableFlag:
            os._exit(0 if owner_of("1001:1001") == Owner(1001, 1001) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: giving files to others needs root")
@pytest.mark.parametrize("words", [["--out", "o"], ["--route", "/config.yaml=c"]])
def test_all_files_belong_to_the_owner_that_is_asked_for(fetch, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "c").touch()
    with ScriptedServer(ready) as server:
        assert fetch(*words, "--chown", "1234:4321", url=server.url).returncode == 0
        again = fetch(*words, url=server.url, CFGSYNC_CHOWN="1234:4321")
    found = (tmp_path / ("c" if "--route" in words else "o/current/config.yaml")).stat()
    assert (found.st_uid, found.st_gid) == (1234, 4321)
    assert "(unchanged)" in again.stderr
