"""The admin socket: where it is, whose it is, what is in its way, and that nothing of another program is ever removed."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cfgsync_runtime.access.admin_socket import connected, opened_admin_socket, places
from cfgsync_runtime.errors import MachineRefused

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: another user needs root")


@pytest.fixture
def here() -> Iterator[Path]:
    """A directory whose path is short, as that of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="cfgsync-") as directory:
        yield Path(directory)


@pytest.fixture
def runtime(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one root of `places`."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(here))
    monkeypatch.setenv("XDG_STATE_HOME", str(here))
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)  # not at /run
    return here


def test_a_server_and_its_commands_look_in_the_same_places_in_the_same_order() -> None:
    root = ["/run/cfgsync/4400.sock"] if os.geteuid() == 0 else []
    given = {"XDG_RUNTIME_DIR": "/run/user/1000", "XDG_STATE_HOME": "/state", "HOME": "/home/me"}
    assert places(4400, given) == ["/run/user/1000/cfgsync/4400.sock", *root, "/state/cfgsync/4400.sock"]
    assert places(4400, {"HOME": "/home/me"}) == [*root, "/home/me/.local/state/cfgsync/4400.sock"]
    relative = {"XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state", "HOME": "/home/me"}
    assert places(4400, relative) == [*root, "/home/me/.local/state/cfgsync/4400.sock"]


def test_a_container_without_home_or_passwd_entry_has_no_place() -> None:
    code = "import os; from cfgsync_runtime.access.admin_socket import places; os.setuid(54321); print(places(1))"
    if os.geteuid() != 0:
        code = code.replace("os.setuid(54321); ", "os.path.expanduser = str; ")
    bare = {"PATH": os.environ["PATH"]}
    ran = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_only_its_user_may_open_it_whatever_the_umask_is(here: Path, umask: int) -> None:
    path = here / "a.sock"
    before = os.umask(umask)
    try:
        with opened_admin_socket(str(path), 1) as made:
            close(made)
            mode = path.stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert mode & 0o177 == 0
            assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert not path.exists()


def test_the_first_usable_place_is_taken_and_the_way_to_it_is_made_for_its_user_alone(
    runtime: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.environ["XDG_RUNTIME_DIR"] = str(runtime / "a-file")
    (runtime / "a-file").write_text("")
    with caplog.at_level("INFO", "cfgsync"), opened_admin_socket(True, 4400) as made:
        assert made is not None
        made.close()
        assert stat.S_IMODE((runtime / "cfgsync").stat().st_mode) == 0o700
        assert (runtime / "cfgsync/4400.sock").is_socket()
    assert caplog.messages == [f"admin socket: {runtime}/cfgsync/4400.sock"]


def test_without_a_place_there_is_one_warning_with_each_reason_and_the_flag(
    runtime: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.environ["XDG_RUNTIME_DIR"] = str(runtime / ("x" * 100))
    (runtime / "cfgsync").write_text("")
    with opened_admin_socket(True, 4400) as none:
        assert none is None
    (words,) = caplog.messages
    assert "longer than 107 bytes" in words
    assert f"{runtime}/cfgsync/4400.sock (" in words
    assert "--admin-socket PATH" in words


def close(made: socket.socket | None) -> None:
    """Of one that should not have been opened: an open one would be an error of its own."""
    assert made is not None
    made.close()


@pytest.mark.parametrize("kind", ["a regular file", "a symbolic link", "a link to a socket", "a directory"])
def test_what_is_no_socket_is_left_alone_and_refused(here: Path, kind: str) -> None:
    path, other = here / "a.sock", here / "other"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "a regular file":
            path.write_text("mine")
        elif kind == "a directory":
            path.mkdir()
        else:
            if kind == "a link to a socket":
                listening.bind(str(other))
            else:
                other.write_text("mine")
            path.symlink_to(other)
        before = path.lstat()
        with (
            pytest.raises(MachineRefused, match="a file that is not a socket") as refused,
            opened_admin_socket(str(path), 1) as made,
        ):
            close(made)
    assert refused.value.hint == "give another --admin-socket"
    assert os.path.samestat(path.lstat(), before)


def test_a_lock_file_that_is_a_link_is_not_followed(here: Path) -> None:
    (here / "precious").write_text("mine")
    (here / "a.sock.lock").symlink_to(here / "precious")
    with pytest.raises(MachineRefused, match="symbolic links"), opened_admin_socket(str(here / "a.sock"), 1):
        pass
    assert (here / "precious").read_text() == "mine"


def test_a_second_server_is_refused_and_the_first_one_keeps_its_socket(here: Path) -> None:
    path = str(here / "a.sock")
    with opened_admin_socket(path, 1) as first:
        assert first is not None
        first.listen()
        with pytest.raises(MachineRefused, match="another server has the admin socket"):
            opened_admin_socket(path, 2).__enter__()
        connected(path).close()
        first.close()


def test_a_killed_server_s_socket_is_replaced(here: Path) -> None:
    path = here / "a.sock"
    code = (
        "import os, signal, sys; from cfgsync_runtime.access.admin_socket import opened_admin_socket as opened\n"
        "with opened(sys.argv[1], 1) as made: made.listen(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)])
    assert path.is_socket()
    with pytest.raises(ConnectionRefusedError):
        connected(str(path))
    with opened_admin_socket(str(path), 1) as made:
        assert made is not None
        made.listen()
        connected(str(path)).close()
        made.close()


@pytest.mark.parametrize("full", [False, True])
def test_a_socket_on_which_another_program_listens_is_not_taken_over(here: Path, full: bool) -> None:
    path = str(here / "a.sock")
    with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as waiting:
        theirs.bind(path)
        theirs.listen(0)
        if full:
            waiting.connect(path)
        with (
            pytest.raises(MachineRefused, match="another program listens there"),
            opened_admin_socket(path, 1) as made,
        ):
            close(made)
        assert os.path.exists(path)


def test_leaving_removes_no_socket_that_another_program_has_put_there(here: Path) -> None:
    path = here / "a.sock"
    with opened_admin_socket(str(path), 1) as made, socket.socket(socket.AF_UNIX) as theirs:
        assert made is not None
        path.unlink()
        theirs.bind(str(path))
        made.close()
    assert path.is_socket()


@as_root
def test_a_command_does_not_talk_to_a_server_of_another_user(here: Path) -> None:
    """In a directory that others may write, another user may be there first, or replace the socket."""
    here.chmod(0o777)
    path = str(here / "a.sock")
    code = (
        "import os, socket, sys; os.setuid(int(sys.argv[2])); s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]);"
        "s.listen(); os.chmod(sys.argv[1], 0o666); print('up', flush=True); sys.stdin.read()"
    )
    theirs = subprocess.Popen(
        [sys.executable, "-c", code, path, str(NOBODY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert theirs.stdout is not None
    assert theirs.stdout.readline() == "up\n"
    ask = (
        "import os, sys; from cfgsync_runtime.access.admin_socket import connected\n"
        "os.setuid(int(sys.argv[2]))\n"
        "try: connected(sys.argv[1]); print('connected')\n"
        "except OSError as error: print(error)"
    )
    for user, said in ((NOBODY, "connected"), (4711, "a program of another user (65534) listens there")):
        ran = subprocess.run([sys.executable, "-c", ask, path, str(user)], capture_output=True, text=True)
        assert said in ran.stdout, ran
    theirs.communicate("")


@as_root
def test_a_lock_file_of_another_user_holds_no_server_up(here: Path) -> None:
    lock = here / "a.sock.lock"
    lock.write_text("")
    os.chown(lock, NOBODY, NOBODY)
    with (
        pytest.raises(MachineRefused, match="is not a lock file of this user"),
        opened_admin_socket(str(here / "a.sock"), 1),
    ):
        pass
