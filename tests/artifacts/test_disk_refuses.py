"""A disk that is full or read-only, a place that is forbidden: what was there stays, nothing is left over, and the
error says what to do. Real disks, each mounted in a mount namespace of its own: needs root."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PRELUDE = """
import errno, os, pathlib, subprocess, sys
from cfgsync_artifacts import CfgsyncError, DiskError, Placed, create_file, install, replace_file, replace_files
disk = pathlib.Path(sys.argv[1])

def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)

def files(root, label, size=1000):
    return [Placed(str(root), ("d", name), label * size, 0o644) for name in ("one", "two", "three")]

def labels(root):
    return {(pathlib.Path(root) / "d" / name).read_bytes()[:1] for name in ("one", "two", "three")}

def listing(root):
    return sorted(str(path.relative_to(root)) for path in pathlib.Path(root).rglob("*"))

def become_nobody():
    global disk
    os.chdir(disk)  # the way there is closed to others: stand there
    disk = pathlib.Path()
    os.setuid(65534)

def refused(what, code):
    try:
        what()
    except DiskError as error:
        assert error.__cause__.errno == code or error.__cause__.__cause__.errno == code, repr(error.__cause__)
        assert os.strerror(code) in str(error) and error.hint and "\\n" not in str(error) + error.hint
        return error
    raise AssertionError("it was not refused")
"""


@functools.cache
def may_mount() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


def on_a_disk(directory: Path, *, size: str | None, script: str) -> None:
    if os.geteuid() != 0 or not may_mount():
        pytest.skip("NOT TESTED: a real disk needs root and `unshare -m`")
    mounting = f'mount("-t", "tmpfs", "-o", "{size}", "tmpfs", disk)\n' if size else ""
    program = PRELUDE + mounting + textwrap.dedent(script)
    command = ["unshare", "-m", "--propagation", "private", sys.executable, "-c", program, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_keeps_the_old_set_and_leaves_nothing_over(tmp_path: Path) -> None:
    on_a_disk(
        tmp_path,
        size="size=256k",
        script="""
        out = disk / "out"
        install(str(out), files(out, b"A"))
        before = listing(out)
        error = refused(lambda: install(str(out), files(out, b"B", 100_000)), errno.ENOSPC)
        assert str(out) in str(error) and "free space" in error.hint
        assert listing(out) == before and labels(out / "current") == {b"A"}
        assert install(str(out), files(out, b"C")) and labels(out / "current") == {b"C"}
        """,
    )


def test_a_disk_without_inodes_is_full_too(tmp_path: Path) -> None:
    on_a_disk(
        tmp_path,
        size="nr_inodes=12",
        script="""
        install(str(disk), files(disk, b"A"))
        before = listing(disk)
        error = refused(lambda: install(str(disk), files(disk, b"B")), errno.ENOSPC)
        assert "no inodes are left" in str(error) and "inodes" in error.hint
        assert listing(disk) == before and labels(disk / "current") == {b"A"}
        """,
    )


def test_the_last_inode_of_a_set_is_missed_as_one_although_the_clean_up_frees_others(tmp_path: Path) -> None:
    on_a_disk(
        tmp_path,
        size="nr_inodes=7",  # the root, .generations, the set, its directory and three files: none for the symlink
        script="""
        error = refused(lambda: install(str(disk), files(disk, b"A")), errno.ENOSPC)
        assert "no inodes are left" in str(error)
        """,
    )


def test_a_full_disk_loses_young_sets_before_a_new_one_is_refused(tmp_path: Path) -> None:
    on_a_disk(
        tmp_path,
        size="size=450k",
        script="""
        sets = lambda: sorted(map(int, os.listdir(disk / ".generations")))
        for label in (b"A", b"B", b"C", b"D"):
            install(str(disk), files(disk, label, 30_000), keep=1)
        assert sets() == [1, 2, 3, 4]
        assert install(str(disk), files(disk, b"E", 30_000), keep=1) and labels(disk / "current") == {b"E"}
        assert sets()[-1] > 4 and 4 in sets() and 1 not in sets()
        refused(lambda: install(str(disk), files(disk, b"F", 160_000), keep=1), errno.ENOSPC)
        assert labels(disk / "current") == {b"E"} and 4 in sets()
        """,
    )


def test_what_cannot_be_removed_is_named_and_never_blocks_a_new_set(tmp_path: Path) -> None:
    on_a_disk(
        tmp_path,
        size="size=1m",
        script="""
        out = disk / "out"
        said = []
        install(str(out), files(out, b"A"), keep=0)
        precious = disk / "precious"; precious.mkdir(); (precious / "data").write_bytes(b"data")
        (out / ".generations/1/mnt").mkdir()
        mount("--bind", precious, out / ".generations/1/mnt")
        stage = out / ".generations/stage-2"; (stage / "mnt").mkdir(parents=True); mount("--bind", precious, stage / "mnt")
        for label in (b"B", b"C", b"D"):
            os.utime(out / ".generations/1", (0, 0))
            assert install(str(out), files(out, label), keep=0, note=said.append) and labels(out / "current") == {label}
        assert (precious / "data").read_bytes() == b"data"
        assert f"{out}/.generations/stage-2 cannot be removed (something is mounted there)" in said[0]
        for there in (out / ".generations/1/mnt", stage / "mnt"):
            subprocess.run(["umount", there], check=True)
        del said[:]
        os.utime(out / ".generations/1", (0, 0))
        assert not install(str(out), files(out, b"D"), keep=0, note=said.append) and said == []
        assert "1" not in os.listdir(out / ".generations") and "stage-2" not in os.listdir(out / ".generations")
        """,
    )


def test_a_full_disk_keeps_every_file_that_would_have_been_replaced(tmp_path: Path) -> None:
    on_a_disk(
        tmp_path,
        size="size=256k",
        script="""
        replace_files(files(disk, b"A"))
        before = listing(disk)
        refused(lambda: replace_files(files(disk, b"B", 100_000)), errno.ENOSPC)
        assert listing(disk) == before and labels(disk) == {b"A"}
        refused(lambda: create_file(str(disk / "secret"), b"x" * 300_000), errno.ENOSPC)
        assert listing(disk) == before
        """,
    )


def test_a_read_only_disk_is_refused_but_what_is_in_place_there_needs_no_writing(tmp_path: Path) -> None:
    on_a_disk(
        tmp_path,
        size="size=1m",
        script="""
        install(str(disk / "out"), files(disk / "out", b"A"))
        replace_files(files(disk / "map", b"A"))
        before = listing(disk)
        mount("-o", "remount,ro", disk)
        error = refused(lambda: install(str(disk / "out"), files(disk / "out", b"B")), errno.EROFS)
        assert "writable" in error.hint
        refused(lambda: replace_files(files(disk / "map", b"B")), errno.EROFS)
        refused(lambda: install(str(disk / "new"), files(disk / "new", b"B")), errno.EROFS)
        assert not install(str(disk / "out"), files(disk / "out", b"A"))
        assert not replace_files(files(disk / "map", b"A"))
        assert listing(disk) == before and labels(disk / "out/current") == labels(disk / "map") == {b"A"}
        """,
    )


def test_a_target_that_is_a_mount_point_is_named_and_left(tmp_path: Path) -> None:
    on_a_disk(
        tmp_path,
        size="size=1m",
        script="""
        (disk / "source").write_bytes(b"mounted"), (disk / "target").write_bytes(b"old")
        mount("--bind", disk / "source", disk / "target")
        error = refused(lambda: replace_file(str(disk / "target"), b"new"), errno.EBUSY)
        assert "mount point" in error.hint
        assert (disk / "target").read_bytes() == b"mounted" and listing(disk) == ["source", "target"]
        """,
    )


def test_a_forbidden_place_is_refused_and_nothing_is_left_there(tmp_path: Path) -> None:
    on_a_disk(
        tmp_path,
        size="size=1m,mode=755",
        script="""
        install(str(disk / "out"), files(disk / "out", b"A"))
        before = listing(disk)
        become_nobody()
        error = refused(lambda: install(str(disk / "out"), files(disk / "out", b"B")), errno.EACCES)
        assert "another place" in error.hint
        refused(lambda: replace_file(str(disk / "file"), b"x"), errno.EACCES)
        refused(lambda: install(str(disk / "new"), files(disk / "new", b"B")), errno.EACCES)
        assert listing(disk) == before and labels(disk / "out/current") == {b"A"}
        """,
    )


def test_a_file_that_its_own_user_may_not_read_is_written_replaced_and_pruned(tmp_path: Path) -> None:
    on_a_disk(
        tmp_path,
        size="size=1m,mode=777",
        script="""
        become_nobody()
        closed = lambda root, label: [Placed(str(root), ("d", "closed"), label, 0o000)]
        for label in (b"A", b"B", b"C", b"C"):
            assert install(str(disk / "out"), closed(disk / "out", label))  # unreadable: unverifiable, so written anew
            assert replace_files(closed(disk / "map", label))
        assert listing(disk / "map") == ["d", "d/closed"]
        assert sorted(os.listdir(disk / "out/.generations")) == ["1", "2", "3", "4"]
        """,
    )


def test_a_directory_where_a_file_must_go_and_a_file_where_a_directory_must_go(tmp_path: Path) -> None:
    on_a_disk(
        tmp_path,
        size=None,
        script="""
        (disk / "file").write_bytes(b"old")
        error = refused(lambda: install(str(disk / "file"), files(disk / "file", b"A")), errno.ENOTDIR)
        assert "not a directory" in error.hint and (disk / "file").read_bytes() == b"old"
        """,
    )
