"""One server for each database, under all its names; nothing that is not ours is written, followed or removed."""

import asyncio
import errno
import fcntl
import logging
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cfgsync_core import StoreRefused
from cfgsync_runtime.backends.sqlite.disk import lock as lock_module
from cfgsync_runtime.backends.sqlite.engine import SqliteStore

OPENS = """
import asyncio, sys
from cfgsync_core import StoreRefused
from cfgsync_runtime import open_backend
async def main():
    try:
        async with open_backend("sqlite:" + sys.argv[1]):
            print("opened", flush=True)
            sys.stdin.readline()
    except StoreRefused as refused:
        print("refused", refused)
asyncio.run(main())
"""


def opened_elsewhere(path):
    done = subprocess.run([sys.executable, "-c", OPENS, path], capture_output=True, text=True, input="")
    assert "Traceback" not in done.stderr
    return done.stdout.strip()


async def refusal_of(path, **how):
    with pytest.raises(StoreRefused) as refused:
        async with SqliteStore(str(path), **how):
            pass
    assert refused.value.hint
    return str(refused.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.db"


async def made(path):
    async with SqliteStore(str(path)) as store:
        await store.commit("b", {"a": b"1"})


# A second name


async def test_a_second_server_is_refused_under_every_name_of_the_file(path, tmp_path):
    await made(path)
    os.link(path, tmp_path / "hard.db")
    (tmp_path / "soft.db").symlink_to("x.db")
    (tmp_path / "there").symlink_to(tmp_path)
    (tmp_path / "copy").mkdir()
    for name in ("x.db", "x.db.lock"):  # as `cp -al` makes them
        os.link(tmp_path / name, tmp_path / "copy" / name)
    async with SqliteStore(str(path)) as store:
        for _ in range(2):
            for name in ("hard.db", "soft.db", "there/x.db", "copy/x.db", "./x.db"):
                assert opened_elsewhere(str(tmp_path / name)).startswith("refused"), name
                assert "in use by another server" in await refusal_of(tmp_path / name), name
        assert (await store.commit("b", {"a": b"2"})).revision == 2
    assert opened_elsewhere(str(tmp_path / "hard.db")) == "opened"


async def test_a_second_name_is_only_worth_a_warning(path, tmp_path, caplog):
    await made(path)
    os.link(path, tmp_path / "backup.db")
    await made(path)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "second name" in caplog.text


async def test_the_file_is_locked_as_long_as_any_store_of_this_process_is_open_beside_it(path, tmp_path):
    await made(path)
    os.link(path, tmp_path / "hard.db")
    async with SqliteStore(str(path)) as store:
        for _ in range(3):
            async with SqliteStore(str(path), read_only=True) as beside:
                assert (await beside.version("b")).revision == 1
        assert opened_elsewhere(str(tmp_path / "hard.db")).startswith("refused")
        assert opened_elsewhere(str(path)).startswith("refused")
        assert await store.version("b")


async def test_descriptors_do_not_pile_up(path):
    await made(path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await made(path)
        await refusal_of(path.with_name("absent.db"), read_only=True)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_forked_worker_does_not_keep_the_store_of_its_killed_parent(path):
    code = OPENS.replace('print("opened"', "import os, time; os.fork() or time.sleep(600); print(os.getpid()")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert int(server.stdout.readline()) == server.pid
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        try:
            assert opened_elsewhere(str(path)).startswith("refused")
            server.kill()
            server.wait()
            assert opened_elsewhere(str(path)) == "opened"
        finally:
            os.kill(int(children[0]), signal.SIGKILL)


# The lock file


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "pipe", "directory", "text"])
async def test_what_lies_in_the_place_of_the_lock_is_named_and_left_alone(path, tmp_path, kind):
    lock, victim = path.with_name("x.db.lock"), tmp_path / "victim"
    if kind != "dangling link":
        victim.write_text("precious\n" * 10)
    match kind:
        case "link" | "dangling link":
            lock.symlink_to(victim)
        case "hard link":
            os.link(victim, lock)
        case "pipe":
            os.mkfifo(lock)
        case "directory":
            lock.mkdir()
        case "text":
            lock.write_text("12 monkeys\n")
    assert "x.db.lock" in await asyncio.wait_for(refusal_of(path), 10)
    assert not path.exists()
    if kind == "dangling link":
        assert not victim.exists()
    else:
        assert victim.read_text() == "precious\n" * 10
    if kind == "text":
        assert lock.read_text() == "12 monkeys\n"


async def test_the_lock_file_of_an_older_version_is_taken_over(path):
    path.with_name("x.db.lock").write_text("12345\n")
    await made(path)
    await made(path)
    assert lock_module.Mark.parse(path.with_name("x.db.lock").read_bytes()) == (
        os.getpid(),
        lock_module.boot_id(),
        0,
    )


async def test_a_file_system_without_locks_is_named(path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "lockf", none)
        assert "gives no locks (No locks available)" in await refusal_of(path)
        assert not path.exists()
    await made(path)
    whole = fcntl.fcntl
    with monkeypatch.context() as patched:
        patched.setattr(
            fcntl,
            "fcntl",
            lambda fd, what, *order: none() if what == fcntl.F_OFD_SETLK else whole(fd, what, *order),
        )
        assert "gives no locks" in await refusal_of(path)
    await made(path)


# What lies beside it


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("read_only", [False, True])
async def test_a_log_that_is_a_link_to_another_file_is_refused_and_the_file_left_alone(
    path, tmp_path, suffix, read_only
):
    await made(path)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.with_name("x.db" + suffix).symlink_to(victim)
    assert f"x.db{suffix} is not a regular file" in await refusal_of(path, read_only=read_only)
    assert victim.read_text() == "precious"


async def test_a_foreign_file_with_the_suffix_new_is_named_and_left_alone(path, caplog):
    for name in ("x.db.new", "x.db.new-journal"):
        path.with_name(name).write_text("precious")
    await made(path)
    assert "x.db.new is left as it is" in caplog.text
    assert (
        path.with_name("x.db.new").read_text() == path.with_name("x.db.new-journal").read_text() == "precious"
    )
    assert sorted(os.listdir(path.parent)) == ["x.db", "x.db.lock", "x.db.new", "x.db.new-journal"]


# Disks


def in_a_mount_of_its_own(tmp_path, script):
    """Run as root, in a mount namespace: the shell lines, with cfgsync as $C."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs root and a mount namespace")
    env = os.environ | {"C": str(Path(sys.executable).parent / "cfgsync"), "PY": sys.executable}
    return subprocess.run(
        ["unshare", "-m", "bash", "-ec", script],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("crashed", [False, True])
async def test_check_works_on_a_read_only_mount(path, tmp_path, crashed):
    async with SqliteStore(str(path)) as store:
        await store.commit("b", {"a": b"1"})
        place = tmp_path / "place"
        place.mkdir()
        if crashed:
            for file in tmp_path.glob("x.db*"):
                (place / file.name).write_bytes(file.read_bytes())
    if not crashed:
        path.rename(place / "x.db")
    done = in_a_mount_of_its_own(
        tmp_path,
        "mount --bind place place; mount -o remount,bind,ro place; $C store check --store sqlite:place/x.db",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "whole: 1 bucket"


async def test_check_on_a_read_only_mount_says_what_a_log_without_an_index_needs(path, tmp_path):
    async with SqliteStore(str(path)) as store:
        await store.commit("b", {"a": b"1"})
        (tmp_path / "place").mkdir()
        for name in ("x.db", "x.db-wal"):
            (tmp_path / "place" / name).write_bytes((tmp_path / name).read_bytes())
    done = in_a_mount_of_its_own(
        tmp_path,
        "mount --bind place place; mount -o remount,bind,ro place; $C store check --store sqlite:place/x.db",
    )
    assert done.returncode == 1
    assert "its directory is read-only" in done.stderr
    assert "copy the file and its -wal" in done.stderr


def test_a_server_on_a_read_only_mount_or_one_without_inodes_says_which(tmp_path):
    done = in_a_mount_of_its_own(
        tmp_path,
        """mkdir d; mount -t tmpfs -o nr_inodes=8 t d; cd d
        for n in 1 2 3 4 5 6 7 8 9; do touch f$n 2>/dev/null || true; done
        opens() { $PY -c "$OPENS" x.db </dev/null; }
        opens; rm f1; opens; rm f1 f2 2>/dev/null || true; opens; rm -f f3 f4; mount -o remount,ro .; opens || true""".replace(
            '"$OPENS"', f"'{OPENS}'"
        ),
    )
    lines = done.stdout.splitlines()
    assert [line.partition(" for ")[0] for line in lines[:3]] == ["refused no inodes left"] * 3, done
    assert "Read-only file system" in lines[3]


async def test_the_files_of_a_store_are_for_their_owner_alone_whatever_the_umask(path):
    old = os.umask(0)
    try:
        await made(path)
    finally:
        os.umask(old)
    for name in ("x.db", "x.db.lock"):
        assert stat.S_IMODE(path.with_name(name).stat().st_mode) == 0o600
