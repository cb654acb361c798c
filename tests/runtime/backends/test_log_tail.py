"""A log that is damaged, cut or gone is not taken for a crash; a crash is not taken for damage."""

import os
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from cfgsync_core import StoreDamaged
from cfgsync_runtime.backends.sqlite.disk.lock import boot_id
from cfgsync_runtime.backends.sqlite.engine import SqliteStore

COMMITS = 40
WRITES = """
import asyncio, os, sys
from cfgsync_runtime import open_backend
async def main():
    async with open_backend("sqlite:" + sys.argv[1]) as (store, *_):
        for n in range(int(sys.argv[2])):
            await store.commit("b", {f"k{n}": b"x" * 200})
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The files of a server that was killed after its commits."""
    place = tmp_path_factory.mktemp("killed")
    assert subprocess.run([sys.executable, "-c", WRITES, place / "x.db", str(COMMITS)]).returncode == -9
    return place


@pytest.fixture
def path(killed, tmp_path):
    for file in killed.iterdir():
        shutil.copy2(file, tmp_path / file.name)
    return tmp_path / "x.db"


def beside(path, suffix):
    return path.with_name(path.name + suffix)


def flip(file, at):
    raw = bytearray(file.read_bytes())
    raw[at] ^= 1
    file.write_bytes(raw)


def frame(number):
    return 32 + (24 + 4096) * (number - 1)


async def commits_in(path, **how):
    async with SqliteStore(str(path), **how) as store:
        return (await store.version("b")).revision


async def is_refused(path):
    """By a reader, which keeps the evidence, and then by server after server."""
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    for read_only in (True, True, False, False):
        with pytest.raises(StoreDamaged, match="acknowledged commits are lost") as refused:
            await commits_in(path, read_only=read_only)
        assert "new-epoch" in refused.value.hint
    after = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert {**after, "x.db.lock": b""} == {**before, "x.db.lock": b""}
    return str(refused.value)


async def test_after_kill_9_every_commit_is_there_and_the_next_log_begins_anew(path):
    assert await commits_in(path, read_only=True) == COMMITS
    assert await commits_in(path) == COMMITS
    assert not beside(path, "-wal").exists()
    assert await commits_in(path) == COMMITS


@pytest.mark.parametrize("at", [frame(2) + 30, frame(9) + 9, frame(20) + 16, frame(20) + 4, 8, 20], ids=str)
async def test_one_flipped_bit_in_the_log_is_damage(path, at):
    """In a page, in a frame's salts, its sums or its mark of a commit, in the log's header."""
    flip(beside(path, "-wal"), at)
    await is_refused(path)


async def test_a_flipped_bit_in_the_last_commit_is_damage(path):
    log = beside(path, "-wal")
    flip(log, log.stat().st_size - 7)
    await is_refused(path)


@pytest.mark.parametrize("left", [0, 20, 32, frame(2), frame(30) + 100])
async def test_a_log_that_was_cut_is_damage(path, left):
    os.truncate(beside(path, "-wal"), left)
    await is_refused(path)


async def test_a_log_that_is_gone_is_damage_also_with_its_index(path):
    beside(path, "-wal").unlink()
    assert "its write-ahead log is gone" in await is_refused(path)
    beside(path, "-shm").unlink()
    assert "its write-ahead log is gone" in await is_refused(path)


async def test_the_log_of_another_time_is_damage(path, tmp_path):
    """As after a restore of some of the files."""
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run([sys.executable, "-c", WRITES, other / "x.db", "30"])
    shutil.copy(other / "x.db-wal", beside(path, "-wal"))
    shutil.rmtree(other)
    assert "not that of its last server" in await is_refused(path)


def another_boot(path):
    lock = beside(path, ".lock")
    lock.write_text(lock.read_text().replace(boot_id(), "00000000-0000-7000-8000-000000000000"))


async def test_after_another_boot_the_index_counts_no_more_but_the_log_still_does(path):
    """A power cut may lose what was never synced, the index above all."""
    another_boot(path)
    flip(beside(path, "-wal"), frame(9) + 500)
    await is_refused(path)


async def test_after_another_boot_an_unfinished_last_commit_is_an_ordinary_crash(path):
    another_boot(path)
    log = beside(path, "-wal")
    os.truncate(log, log.stat().st_size - 100)
    assert await commits_in(path, read_only=True) == COMMITS - 1
    assert await commits_in(path) == COMMITS - 1


async def test_a_commit_that_was_killed_half_way_is_an_ordinary_crash(path):
    """Its frames are in the log, and neither the index nor anybody else knows of them."""
    log = beside(path, "-wal")
    last = log.read_bytes()[-(24 + 4096) :]
    with log.open("ab") as file:
        file.write(struct.pack(">II", 2, 9) + last[8:])  # a commit's frame whose page was not written
    assert await commits_in(path) == COMMITS


async def test_a_program_that_closed_the_log_properly_has_lost_nothing(path):
    """Such as the sqlite3 shell, for a backup between crash and restart."""
    connection = sqlite3.connect(path)
    assert connection.execute("select revision from bucket").fetchone() == (COMMITS,)
    connection.close()
    assert not beside(path, "-wal").exists()
    assert await commits_in(path) == COMMITS


async def test_a_backup_needs_no_log_although_its_server_was_at_work(path, tmp_path):
    async with SqliteStore(str(path)) as store:
        await store.commit("b", {"late": b"1"})
        with sqlite3.connect(path) as source, sqlite3.connect(tmp_path / "backup.db") as target:
            source.backup(target)
        source.close()
        target.close()
    assert await commits_in(tmp_path / "backup.db", read_only=True) == COMMITS + 1
    assert await commits_in(tmp_path / "backup.db") == COMMITS + 1


async def test_a_log_that_is_lost_after_a_checkpoint_is_noticed_too(tmp_path):
    """The session of before the checkpoint is in the database then, and must not count as the newest."""
    path = tmp_path / "x.db"
    code = WRITES.replace('b"x" * 200', 'b"x" * 3_000_000')
    assert subprocess.run([sys.executable, "-c", code, path, "24"]).returncode == -9
    for suffix in ("-wal", "-shm"):
        beside(path, suffix).unlink()
    with pytest.raises(StoreDamaged, match="log is gone"):
        await commits_in(path)


async def test_a_clean_end_leaves_a_store_that_needs_no_log(path):
    async with SqliteStore(str(path)) as store:
        await store.commit("b", {"late": b"1"})
    beside(path, ".lock").unlink()
    assert sorted(file.name for file in path.parent.iterdir()) == ["x.db"]
    assert await commits_in(path, read_only=True) == COMMITS + 1


def test_new_epoch_accepts_the_loss_and_says_what_is_left(path):
    def cfgsync(*words):
        return subprocess.run(
            [Path(sys.executable).parent / "cfgsync", "store", *words, "--store", f"sqlite:{path}"],
            capture_output=True,
            text=True,
        )

    flip(beside(path, "-wal"), frame(30) + 500)
    refused = cfgsync("check")
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 2
    accepted = cfgsync("new-epoch")
    assert accepted.returncode == 0, accepted.stderr
    first, what, left, names, epoch, _ = accepted.stdout.splitlines()
    assert first.startswith("accepted: ")
    assert what == "what is left:"
    revision = int(re.match(r"b: revision (\d+), .* history of \1 commits;", left)[1])
    assert 0 < revision < COMMITS
    assert re.search(
        r"newest change is of 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ, and every later one is gone", left
    )
    assert "registers again" in names
    assert epoch.endswith(f".{revision}")
    assert cfgsync("check").stdout.splitlines()[-1] == "whole: 1 bucket"
