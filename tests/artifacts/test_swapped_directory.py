"""A reader of `current` sees the old set or the new one, whenever the writer is killed."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from cfgsync_artifacts import DiskError, Owner, Patience, Placed, TargetBusy, install, is_current
from tests.artifacts.kill_at_each_step import killed_at_each_step

NAMES = [("a",), ("d", "b"), ("d", "e", "c"), ("f",)]
MODES = [0o644, 0o600, 0o755, 0o000]


def a_set(directory: Path, label: str, names: list[tuple[str, ...]] = NAMES) -> list[Placed]:
    return [
        Placed(str(directory), parts, f"{label} {parts}\n".encode() * 200, mode)
        for parts, mode in zip(names, MODES, strict=False)
    ]


def installed(directory: Path) -> set[str]:
    """The labels of the files in `current`; one label is one whole set."""
    found = {directory / "current" / Path(*parts) for parts in NAMES}
    there = {path for path in (directory / "current").rglob("*") if not path.is_dir()}
    assert there == found
    contents = [path.read_bytes() for path in found]
    assert all(len(set(content.splitlines())) == 1 and content.count(b"\n") == 200 for content in contents)
    return {content.split()[0].decode() for content in contents}


def numbers(directory: Path) -> list[str]:
    return sorted(os.listdir(directory / ".generations"))


def test_a_set_is_installed_and_current_points_to_it(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    assert install(str(out), a_set(out, "A"))
    assert sorted(os.listdir(out)) == [".generations", "current"]
    assert os.readlink(out / "current") == ".generations/1"
    assert installed(out) == {"A"}


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_are_what_was_asked_for_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        install(str(tmp_path / "out"), a_set(tmp_path / "out", "A"))
    finally:
        os.umask(before)
    current = tmp_path / "out" / "current"
    assert [stat.S_IMODE(current.joinpath(*parts).stat().st_mode) for parts in NAMES] == MODES
    for directory in (
        tmp_path / "out",
        tmp_path / "out" / ".generations",
        current,
        current / "d",
        current / "d" / "e",
    ):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755


def age(directory: Path, seconds: float) -> None:
    """Let every set be one that was replaced so long ago."""
    for number in numbers(directory):
        os.utime(directory / ".generations" / number, (time.time() - seconds,) * 2)


@pytest.mark.parametrize(
    ("seconds", "keep", "kept"),
    [
        (601, 3, [7, 8, 9, 10]),
        (601, 0, [10]),
        (601, 1, [9, 10]),
        (30, 1, list(range(1, 11))),
        (-3600, 1, [9, 10]),
    ],
)
def test_old_sets_go_and_young_ones_and_the_last_few_stay(
    tmp_path: Path, seconds: float, keep: int, kept: list[int]
) -> None:
    for label in "ABCDEFGHIJ":
        install(str(tmp_path), a_set(tmp_path, label))
    age(tmp_path, seconds)
    assert not install(str(tmp_path), a_set(tmp_path, "J"), keep=keep)
    assert sorted(map(int, numbers(tmp_path))) == kept
    assert installed(tmp_path) == {"J"}


def test_the_age_of_a_set_counts_from_when_it_was_replaced(tmp_path: Path) -> None:
    for label in "ABC":
        install(str(tmp_path), a_set(tmp_path, label))
    age(tmp_path, 3600)  # C was current for an hour
    install(str(tmp_path), a_set(tmp_path, "D"), keep=0)
    assert numbers(tmp_path) == ["3", "4"]


def test_at_most_twenty_sets_are_there_unless_more_are_asked_for(tmp_path: Path) -> None:
    one = [("a",)]
    for number in range(30):
        install(str(tmp_path), a_set(tmp_path, str(number), one))
    assert len(numbers(tmp_path)) == 20
    for number in range(30, 60):
        install(str(tmp_path), a_set(tmp_path, str(number), one), keep=25)
    assert len(numbers(tmp_path)) == 26


def test_a_reader_that_resolved_current_once_finishes_on_whole_files(tmp_path: Path) -> None:
    install(str(tmp_path), a_set(tmp_path, "A"))
    with os.scandir(os.path.realpath(tmp_path / "current")) as walk:
        for label in "BCDEF":
            install(str(tmp_path), a_set(tmp_path, label))
        names = {entry.name for entry in walk}
        first = Path(os.path.realpath(tmp_path / ".generations" / "1"))
        assert names == {"a", "d", "f"}
        assert (first / "d" / "b").read_bytes().startswith(b"A")


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: giving files to others needs root")
def test_what_is_made_in_a_setgid_directory_belongs_to_its_group(tmp_path: Path) -> None:
    install(str(tmp_path / "v"), a_set(tmp_path / "v", "A"))  # before somebody set the bit
    os.chown(tmp_path / "v", -1, 4242)
    (tmp_path / "v").chmod(0o2755)
    assert install(str(tmp_path / "v"), a_set(tmp_path / "v", "A")), "the group of the files has changed"
    assert not install(str(tmp_path / "v"), a_set(tmp_path / "v", "A"))
    current = tmp_path / "v" / "current"
    for path in (current, current / "d", current / "d" / "e"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o2755
    assert {current.joinpath(*parts).stat().st_gid for parts in NAMES} == {4242}
    (tmp_path / "w").mkdir()
    os.chown(tmp_path / "w", -1, 4242)
    (tmp_path / "w").chmod(0o2755)
    install(str(tmp_path / "w" / "new" / "out"), a_set(tmp_path / "w" / "new" / "out", "A"))
    assert (tmp_path / "w" / "new" / "out" / "current" / "a").stat().st_gid == 4242


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: giving files to others needs root")
def test_a_set_belongs_to_the_owner_that_is_asked_for(tmp_path: Path) -> None:
    install(str(tmp_path), a_set(tmp_path, "A"))
    owned = [msgspec.structs.replace(file, owner=Owner(1234, 5678)) for file in a_set(tmp_path, "A")]
    assert install(str(tmp_path), owned), "the owner is other"
    found = {(tmp_path / "current").joinpath(*parts).stat() for parts in NAMES}
    assert {(one.st_uid, one.st_gid) for one in found} == {(1234, 5678)}
    assert is_current(str(tmp_path), owned)


def test_an_equal_set_makes_no_new_number(tmp_path: Path) -> None:
    assert install(str(tmp_path), a_set(tmp_path, "A"))
    assert is_current(str(tmp_path), a_set(tmp_path, "A"))
    assert not install(str(tmp_path), a_set(tmp_path, "A"))
    assert numbers(tmp_path) == ["1"]


def change_content(current: Path) -> None:
    (current / "d" / "b").write_bytes((current / "d" / "b").read_bytes().replace(b"A", b"X", 1))


def change_mode(current: Path) -> None:
    (current / "a").chmod(0o666)


def change_directory_mode(current: Path) -> None:
    (current / "d").chmod(0o777)


def lose_a_file(current: Path) -> None:
    (current / "f").unlink()


def add_a_file(current: Path) -> None:
    (current / "d" / "extra").write_bytes(b"")


def link_a_file(current: Path) -> None:
    (current / "a").rename(current.parent.parent.parent / "moved")
    (current / "a").symlink_to(current.parent.parent.parent / "moved")


def put_a_pipe(current: Path) -> None:
    (current / "a").unlink()
    os.mkfifo(current / "a")


@pytest.mark.parametrize(
    "alter",
    [change_content, change_mode, change_directory_mode, lose_a_file, add_a_file, link_a_file, put_a_pipe],
)
def test_a_set_that_was_altered_on_disk_is_written_anew(
    tmp_path: Path, alter: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    install(str(out), a_set(out, "A"))
    alter(out / "current")
    assert not is_current(str(out), a_set(out, "A"))
    assert install(str(out), a_set(out, "A"))
    assert numbers(out) == ["1", "2"]
    assert is_current(str(out), a_set(out, "A"))


def test_what_a_crash_left_goes_and_names_that_are_not_ours_stay(tmp_path: Path) -> None:
    for label in "ABC":
        install(str(tmp_path), a_set(tmp_path, label))
    home = tmp_path / ".generations"
    (home / "stage-4" / "d").mkdir(parents=True)
    (home / "stage-4" / "d" / "half").write_bytes(b"x")
    (home / "stage-4" / "out").symlink_to("/etc")
    (home / "4").mkdir()
    (home / "stage-current").symlink_to(".generations/4")
    (home / "lost+found").mkdir()
    assert not install(str(tmp_path), a_set(tmp_path, "C"))
    assert numbers(tmp_path) == ["1", "2", "3", "lost+found"]
    assert os.path.exists("/etc/passwd")


def somebody_elses_file(current: Path) -> None:
    current.write_bytes(b"precious")


def somebody_elses_directory(current: Path) -> None:
    current.mkdir()


def somebody_elses_link(current: Path) -> None:
    current.symlink_to("releases/7")


@pytest.mark.parametrize("make", [somebody_elses_file, somebody_elses_directory, somebody_elses_link])
def test_a_current_that_is_not_ours_is_refused_and_left(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "current")
    before = (tmp_path / "current").lstat()
    with pytest.raises(DiskError, match="was not made by cfgsync") as refused:
        install(str(tmp_path), a_set(tmp_path, "A"))
    assert "move it away" in refused.value.hint
    assert (tmp_path / "current").lstat() == before
    assert os.listdir(tmp_path) == ["current"]


def test_a_link_in_place_of_the_generations_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".generations").symlink_to("../elsewhere")
    with pytest.raises(DiskError):
        install(str(tmp_path / "out"), a_set(tmp_path / "out", "A"))
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_second_writer_waits_as_long_as_it_may_and_says_so(tmp_path: Path) -> None:
    install(str(tmp_path), a_set(tmp_path, "A"))
    fd = os.open(tmp_path / ".generations", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    threading.Timer(0.2, os.close, [fd]).start()
    said: list[str] = []
    assert install(str(tmp_path), a_set(tmp_path, "B"), patience=Patience(time.monotonic() + 10, said.append))
    assert [line.replace(f" (process {os.getpid()})", "") for line in said] == [
        f"another writer is working in {tmp_path}"
    ]
    assert installed(tmp_path) == {"B"}


def test_without_patience_a_second_writer_is_refused_at_once_and_the_error_has_two_lines(
    tmp_path: Path,
) -> None:
    install(str(tmp_path), a_set(tmp_path, "A"))
    fd = os.open(tmp_path / ".generations", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(TargetBusy) as busy:
        install(str(tmp_path), a_set(tmp_path, "B"))
    assert busy.value.process in (os.getpid(), None)  # None: another namespace of processes
    known = f" (process {busy.value.process})" if busy.value.process else ""
    assert str(busy.value) == f"another writer{known} is working in {tmp_path}"
    assert busy.value.hint
    assert installed(tmp_path) == {"A"}
    os.close(fd)
    assert install(str(tmp_path), a_set(tmp_path, "B"))


def test_of_many_writers_at_once_each_is_whole_or_refused(tmp_path: Path) -> None:
    refused: list[TargetBusy] = []

    def write(label: str) -> None:
        try:
            install(str(tmp_path), a_set(tmp_path, label))
        except TargetBusy as busy:
            refused.append(busy)

    threads = [threading.Thread(target=write, args=(label,)) for label in "ABCDEFGH"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(installed(tmp_path)) == 1
    assert len(refused) < len(threads)


def test_a_writer_killed_at_any_step_leaves_one_whole_set_and_the_next_start_leaves_nothing_over(
    tmp_path: Path,
) -> None:
    for label in "ABC":
        install(str(tmp_path), a_set(tmp_path, label))
    seen = set()
    steps = 0
    last = "C"
    for step in killed_at_each_step(lambda: install(str(tmp_path), a_set(tmp_path, "NEW"))):
        steps = step
        found = installed(tmp_path)
        assert found in ({last}, {"NEW"}), f"mixed at step {step}: {found}"
        seen |= found
        assert set(os.listdir(tmp_path)) == {".generations", "current"}
        last = f"OLD-{step}"
        install(str(tmp_path), a_set(tmp_path, last))
        current = int(os.path.basename(os.readlink(tmp_path / "current")))
        there = sorted(map(int, numbers(tmp_path)))
        assert there == list(range(max(1, current - 19), current + 1)), f"left over after step {step}"
    assert steps > 40
    assert "NEW" in seen, "no kill fell behind the swap"
    assert len(seen) > 30, "no kill fell before the swap"


def test_whoever_reads_after_a_kill_at_any_step_sees_files_of_one_set(tmp_path: Path) -> None:
    """What readers see and nothing else: how the set is put in place is the writer's own affair."""
    last = "OLD"
    install(str(tmp_path), a_set(tmp_path, last))
    for step in killed_at_each_step(lambda: install(str(tmp_path), a_set(tmp_path, "NEW"))):
        files = [tmp_path / "current" / Path(*parts) for parts in NAMES]
        labels = [file.read_bytes().split()[0].decode() for file in files]
        assert labels in ([last] * 4, ["NEW"] * 4), f"mixed after step {step}"
        last = f"OLD-{step}"
        install(str(tmp_path), a_set(tmp_path, last))


def test_what_is_published_is_durable_before_anything_points_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(str(tmp_path), a_set(tmp_path, "A"))
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        fsync(fd)
        done.append("fsync " + os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))

    def noted_rename(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        done.append(f"rename {source} {target}")

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    install(str(tmp_path), a_set(tmp_path, "B"))
    stage = "fsync .generations/stage-2"
    assert done == [
        f"{stage}/a",
        f"{stage}/d/b",
        f"{stage}/d/e/c",
        f"{stage}/d/e",
        f"{stage}/d",
        f"{stage}/f",
        stage,
        "rename stage-2 2",
        "fsync .generations",
        "rename stage-current current",
        "fsync .",
    ]
