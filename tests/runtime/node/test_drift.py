"""Files that somebody changed on this machine are found, restored a few times, or reported; real files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import NodeArtifactsPayload
from cfgsync_runtime.node.drift import InstalledFiles
from cfgsync_runtime.node.drift_guard import DriftGuard
from cfgsync_runtime.node.memory.state import KnownGeneration, NodeState
from cfgsync_runtime.node.outputs import ArtifactOutputMap, OutputDirectory, write

PAYLOAD = NodeArtifactsPayload.from_files(
    ArtifactSet([ArtifactFile("/a", "good"), ArtifactFile("/x/b", "good", mode="0600")])
)


def same_times(path: Path) -> None:
    """Another content of the same size, with the old times."""
    times = path.stat()
    path.write_text("evil")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced(path: Path) -> None:
    path.with_name("new").write_text("evil")
    path.with_name("new").rename(path)


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": lambda path: path.write_text("evil!"),
    "edited, with the old times": same_times,
    "replaced": replaced,
    "deleted": lambda path: path.unlink(),
    "readable by all": lambda path: path.chmod(0o644),
    "a symlink": linked,
}


class Node:
    def __init__(self, directory: Path, routed: bool) -> None:
        self.out = directory / "out"
        self.file = directory / "b" if routed else self.out / "current/x/b"
        self.outputs = (
            ArtifactOutputMap().route("/a", directory / "a").route("/x/b", self.file)
            if routed
            else OutputDirectory(str(self.out))
        )
        self.state = NodeState(directory / "state", "n")
        write(self.outputs.plan(PAYLOAD.raw_files()))
        self.state.keep(PAYLOAD, KnownGeneration("", 0, PAYLOAD.digest, 1.0))
        self.files = InstalledFiles(self.outputs, self.state, PAYLOAD.digest)
        self.said: list[str] = []

    def guard(self, repairs: bool) -> DriftGuard:
        return DriftGuard(self.files, repairs=repairs, say=self.said.append)


@pytest.fixture(params=[False, True], ids=["directory", "routes"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    return Node(tmp_path, request.param)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_is_found_and_restored(node: Node, change: Callable[[Path], object]) -> None:
    guard = node.guard(repairs=True)
    assert await guard.inspect() == ()
    change(node.file)
    assert [file.path for file in node.files.look()] == ["/x/b"]
    assert await guard.inspect() == ()
    assert (node.file.read_text(), node.file.lstat().st_mode & 0o7777) == ("good", 0o600)
    assert node.said == [f"restored 1 file changed on this machine: {node.file}"]
    assert node.files.look() == ()


async def test_a_change_is_reported_once_and_not_touched(node: Node) -> None:
    guard = node.guard(repairs=False)
    node.file.write_text("mine")
    for _ in range(2):
        assert await guard.inspect() == ("/x/b",)
    assert node.file.read_text() == "mine"
    assert len(node.said) == 1
    node.file.write_text("good")
    assert await guard.inspect() == (), "it is right again"


async def test_times_alone_are_no_change(node: Node) -> None:
    guard = node.guard(repairs=True)
    assert await guard.inspect() == ()
    os.utime(node.file)
    assert await guard.inspect() == ()
    assert node.said == []


async def test_the_third_repair_of_a_file_is_not_made(node: Node) -> None:
    guard = node.guard(repairs=True)
    for number in range(4):
        node.file.write_text(f"mine {number}")
        expected = () if number < 2 else ("/x/b",)
        assert await guard.inspect() == expected
    assert node.file.read_text() == "mine 3"
    assert "does not restore a file a third time within 10 minutes" in node.said[2]
    assert len(node.said) == 3, "it is said once"


def test_what_may_be_repaired_is_counted_for_ten_minutes(node: Node) -> None:
    node.file.unlink()
    found = node.files.look()
    assert [node.files.may_repair(found, at) for at in (0, 1, 2, 599, 601, 602)] == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]


async def test_a_stranger_in_a_whole_directory_is_drift(tmp_path: Path) -> None:
    node = Node(tmp_path, routed=False)
    guard = node.guard(repairs=False)
    assert await guard.inspect() == ()
    (node.out / "current/x/stranger").write_text("")
    assert await guard.inspect() == ("/x/stranger",)
    assert await node.guard(repairs=True).inspect() == ()
    assert sorted(os.listdir(node.out / "current/x")) == ["b"]


async def test_a_newer_set_that_another_fetch_brought_is_no_drift(node: Node) -> None:
    guard = node.guard(repairs=True)
    assert await guard.inspect() == ()
    newer = NodeArtifactsPayload.from_files(
        ArtifactSet([ArtifactFile("/a", "new"), ArtifactFile("/x/b", "new")])
    )
    write(node.outputs.plan(newer.raw_files()))
    node.state.keep(newer, KnownGeneration("", 0, newer.digest, 2.0))
    assert await guard.inspect() == ()
    assert (node.file.read_text(), node.said) == ("new", [])
