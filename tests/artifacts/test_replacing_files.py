"""A file is replaced whole or not at all, and so is each of several; the set of them is not."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cfgsync_artifacts.replaced_files
from cfgsync_artifacts import DiskError, Placed, TargetBusy, create_file, replace_file, replace_files
from tests.artifacts.kill_at_each_step import killed_at_each_step


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_the_mode_is_what_was_asked_for_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    modes = [0o000, 0o400, 0o600, 0o644, 0o755, 0o777]
    replace_files([Placed(str(tmp_path / "made" / "too"), (f"{mode:o}",), b"x", mode) for mode in modes])
    assert [stat.S_IMODE((tmp_path / "made" / "too" / f"{mode:o}").stat().st_mode) for mode in modes] == modes
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "made" / "too").stat().st_mode) == 0o755


def test_a_link_is_replaced_and_what_it_points_to_is_left(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("precious")
    replace_file(str(tmp_path / "link"), b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_bytes() == b"new"


def test_a_link_that_waits_under_the_name_of_the_stage_is_removed_and_not_written_through(
    tmp_path: Path,
) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".file.cfgsync-stage").symlink_to("precious")
    replace_file(str(tmp_path / "file"), b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["file", "precious"]


def test_no_link_below_the_chosen_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "sub").symlink_to("../elsewhere")
    with pytest.raises(DiskError) as refused:
        replace_files([Placed(str(tmp_path / "out"), ("sub", "file"), b"x", 0o644)])
    assert refused.value.hint
    assert os.listdir(tmp_path / "elsewhere") == []


def test_the_chosen_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    replace_file(str(tmp_path / "out" / "file"), b"x")
    assert (tmp_path / "real" / "file").read_bytes() == b"x"


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    replace_file(str(tmp_path / ("n" * 255)), b"x")
    assert os.listdir(tmp_path) == ["n" * 255]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_replaced_and_nothing_else_is(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    make(tmp_path / "b")
    before = (tmp_path / "b").lstat()
    with pytest.raises(DiskError, match="cannot write"):
        replace_files([Placed(str(tmp_path), (name,), b"new", 0o644) for name in "ab"])
    assert (tmp_path / "a").read_bytes() == b"old"
    assert (tmp_path / "b").lstat().st_ino == before.st_ino
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_file_where_a_directory_is_needed_is_left_and_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(DiskError, match="Not a directory") as refused:
        replace_file(str(tmp_path / "file" / "below"), b"new")
    assert "move it away" in refused.value.hint
    assert (tmp_path / "file").read_bytes() == b"old"


def test_directories_made_for_a_write_that_fails_go_again(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    files = [
        Placed(str(tmp_path / "new" / "deep"), ("a",), b"x", 0o644),
        Placed(str(tmp_path), ("taken",), b"x", 0o644),
    ]
    with pytest.raises(DiskError):
        replace_files(files)
    assert os.listdir(tmp_path) == ["taken"]


def test_what_already_holds_is_not_written_again(tmp_path: Path) -> None:
    files = [Placed(str(tmp_path), (name,), name.encode(), 0o640) for name in "ab"]
    assert replace_files(files)
    before = [(tmp_path / name).stat().st_ino for name in "ab"]
    assert not replace_files(files)
    (tmp_path / "b").chmod(0o644)
    assert replace_files(files)
    after = [(tmp_path / name).stat().st_ino for name in "ab"]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_file_is_created_once_and_the_second_changes_nothing(tmp_path: Path) -> None:
    assert create_file(str(tmp_path / "secret"), b"first", 0o600)
    assert not create_file(str(tmp_path / "secret"), b"second", 0o600)
    assert (tmp_path / "secret").read_bytes() == b"first"


def test_of_many_who_create_one_file_at_once_one_wins(tmp_path: Path) -> None:
    won: list[bytes] = []

    def create(content: bytes) -> None:
        if create_file(str(tmp_path / "secret"), content):
            won.append(content)

    threads = [threading.Thread(target=create, args=(b"%d" % n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (tmp_path / "secret").read_bytes() == won[0]


def test_a_writer_that_stays_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cfgsync_artifacts.replaced_files, "PATIENCE", 0.05)
    fd = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(TargetBusy) as busy:
        replace_file(str(tmp_path / "file"), b"x")
    assert busy.value.directory == str(tmp_path)
    threading.Timer(0.02, os.close, [fd]).start()
    monkeypatch.setattr(cfgsync_artifacts.replaced_files, "PATIENCE", 5.0)
    replace_file(str(tmp_path / "file"), b"x")


def test_two_spellings_of_one_directory_are_one_lock(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    replace_files(
        [Placed(str(tmp_path), ("a",), b"a", 0o644), Placed(str(tmp_path / "link"), ("b",), b"b", 0o644)]
    )
    assert (tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes() == b"ab"


def test_a_rename_that_fails_halfway_says_how_many_files_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(*arguments: str, **named: Any) -> None:
        if arguments[1] == "c":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        real(*arguments, **named)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(DiskError, match="2 of 3 files are new, each is whole") as refused:
        replace_files([Placed(str(tmp_path), (name,), b"x", 0o644) for name in "abc"])
    assert refused.value.hint.endswith("the next try finishes it")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_writer_killed_at_any_step_leaves_each_file_whole_and_the_next_one_leaves_nothing_over(
    tmp_path: Path,
) -> None:
    def files(label: bytes) -> list[Placed]:
        return [
            Placed(str(tmp_path / root), parts, label * 5000, mode)
            for root, parts, mode in [("x", ("a",), 0o644), ("x", ("d", "b"), 0o600), ("y", ("c",), 0o000)]
        ]

    replace_files(files(b"A"))
    mixed = 0
    steps = 0
    for step in killed_at_each_step(lambda: replace_files(files(b"B"))):
        steps = step
        found = [Path(file.target).read_bytes() for file in files(b"B")]
        assert all(content in (b"A" * 5000, b"B" * 5000) for content in found), f"torn at step {step}"
        mixed += len(set(found)) == 2
        replace_files(files(b"A"))
        assert sorted(os.listdir(tmp_path / "x")) == ["a", "d"]
        assert os.listdir(tmp_path / "x" / "d") == ["b"]
        assert os.listdir(tmp_path / "y") == ["c"]
    assert steps > 20
    assert mixed, "the set is not atomic; were it, generations would not be needed"


def test_each_file_is_durable_before_its_rename_and_each_directory_after_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        fsync(fd)
        done.append("fsync " + os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))

    def noted_rename(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        done.append(f"rename {target}")

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    replace_files([Placed(str(tmp_path), parts, b"x", 0o644) for parts in (("a",), ("d", "b"))])
    assert done == [
        "fsync .a.cfgsync-stage",
        "fsync d/.b.cfgsync-stage",
        "rename a",
        "rename b",
        "fsync .",
        "fsync d",
    ]
