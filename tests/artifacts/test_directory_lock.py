"""One keeper a directory, until it ends; a writer is no keeper, and meets none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cfgsync_artifacts import DiskError, Placed, TargetBusy, TargetKept, install, locked_directory

KEEPER = """
import sys
from cfgsync_artifacts import locked_directory
with locked_directory(sys.argv[1]):
    print("kept", flush=True)
    sys.stdin.read()
"""


def files(text: str, directory: Path) -> list[Placed]:
    return [Placed(str(directory), ("file",), text.encode(), 0o644)]


def test_a_second_keeper_is_refused_at_once_and_told_who_the_first_is(tmp_path: Path) -> None:
    target = tmp_path / "made" / "out"
    with locked_directory(str(target)):
        for spelling in (str(target), f"{target}/", f"{tmp_path}/made/../made/out"):
            with pytest.raises(TargetKept) as refused, locked_directory(spelling):
                pass
            assert isinstance(refused.value, TargetBusy)
            if sys.platform.startswith("linux"):
                assert refused.value.process in (os.getpid(), None)  # None: another namespace of processes
        install(str(target), files("one", target))
        assert sorted(os.listdir(target)) == [".generations", "current"], "a keeper adds no name"
    with locked_directory(str(target)):
        assert (target / "current" / "file").read_text() == "one"


def test_a_keeper_and_a_writer_are_not_in_each_others_way(tmp_path: Path) -> None:
    install(str(tmp_path), files("one", tmp_path))
    with locked_directory(str(tmp_path)):
        assert install(str(tmp_path), files("two", tmp_path))
    assert (tmp_path / "current" / "file").read_text() == "two"


def test_what_was_made_for_a_keeper_goes_when_nothing_came_into_it(tmp_path: Path) -> None:
    with locked_directory(str(tmp_path / "a" / "b")):
        assert (tmp_path / "a" / "b").is_dir()
    assert os.listdir(tmp_path) == []
    with locked_directory(str(tmp_path / "a" / "b")):
        (tmp_path / "a" / "mine").touch()
    assert os.listdir(tmp_path / "a") == ["mine"]


def test_a_directory_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with locked_directory(str(tmp_path / "out")):
        pass
    assert (tmp_path / "out").is_dir()


def test_a_killed_keeper_keeps_nothing(tmp_path: Path) -> None:
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "kept\n"
        with pytest.raises(TargetKept), locked_directory(str(tmp_path)):
            pass
        keeper.kill()
        keeper.wait()
        with locked_directory(str(tmp_path)):
            pass


def test_what_cannot_be_kept_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DiskError, match="cannot write") as refused,
        locked_directory(str(tmp_path / "file" / "out")),
    ):
        pass
    assert not isinstance(refused.value, TargetBusy)


@pytest.mark.parametrize("then", ["moved", "replaced", "removed"])
def test_a_keeper_follows_its_path_to_another_directory(tmp_path: Path, then: str) -> None:
    out = tmp_path / "out"
    with locked_directory(str(out)) as lock:
        assert not lock.follow()
        out.rename(tmp_path / "elsewhere")
        if then == "replaced":
            out.mkdir()
        if then == "removed":
            (tmp_path / "elsewhere").rmdir()
        assert lock.follow()
        assert not lock.follow()
        with pytest.raises(TargetKept), locked_directory(str(out)):
            pass
        if then != "removed":
            with locked_directory(str(tmp_path / "elsewhere")):
                pass


def test_a_keeper_whose_path_has_another_keeper_by_now_is_refused_until_that_ends(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked_directory(str(out)) as lock:
        out.rename(tmp_path / "elsewhere")
        with locked_directory(str(out)), pytest.raises(TargetKept):
            lock.follow()
        with pytest.raises(TargetKept), locked_directory(str(tmp_path / "elsewhere")):
            pass
        assert lock.follow()
