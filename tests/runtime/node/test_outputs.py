"""Every file has a place, or nothing is touched."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile, DiskError, TargetKept, locked_directory
from cfgsync_core import IntegrityError
from cfgsync_runtime.node.outputs import ArtifactOutputMap, OutputDirectory, Plan, in_place, write

FILES = [ArtifactFile("/config.yaml", "id: node-1\n"), ArtifactFile("/tls/key.pem", b"\xff\x00", "0600")]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_output_directory_shows_the_files_below_current() -> None:
    written = write(OutputDirectory("out").plan(FILES))
    assert written.changed
    assert written.paths == ("out/current/config.yaml", "out/current/tls/key.pem")
    assert Path(written.paths[0]).read_text() == "id: node-1\n"
    assert Path(written.paths[1]).read_bytes() == b"\xff\x00"
    assert stat.S_IMODE(os.stat(written.paths[1]).st_mode) == 0o600
    assert sorted(os.listdir("out")) == [".generations", "current"]


def test_a_route_puts_a_file_where_the_operator_says(tmp_path: Path) -> None:
    outputs = ArtifactOutputMap().route("/config.yaml", "node-data/node-1/config.yaml")
    outputs = outputs.route("/tls/key.pem", tmp_path / "elsewhere" / "key")
    written = write(outputs.plan(FILES))
    assert written.paths == ("node-data/node-1/config.yaml", f"{tmp_path}/elsewhere/key")
    assert Path("node-data/node-1/config.yaml").read_text() == "id: node-1\n"
    assert stat.S_IMODE(os.stat("elsewhere/key").st_mode) == 0o600


def test_what_is_not_routed_goes_below_the_directory_for_the_rest() -> None:
    written = write(ArtifactOutputMap().under("rest").route("/config.yaml", "here.yaml").plan(FILES))
    assert written.paths == ("here.yaml", "rest/tls/key.pem")
    assert not Path("rest/config.yaml").exists()


def test_a_route_as_written_is_divided_behind_the_longest_path_that_the_payload_has() -> None:
    named = [ArtifactFile("/a=b", "long"), ArtifactFile("/c", "short"), ArtifactFile("d", "no slash")]
    outputs = ArtifactOutputMap(unsplit=("/a=b=x", "/c=y=z", "/d=d", "/e=absent"))
    assert write(outputs.plan(named)).paths == ("x", "y=z", "d")
    both = [ArtifactFile("/a=b", "long"), ArtifactFile("/a", "short")]
    with pytest.raises(IntegrityError, match="'/a' has no target"):
        ArtifactOutputMap(unsplit=("/a=b=x",)).plan(both)
    with pytest.raises(IntegrityError, match="'/a=b' is routed twice"):
        ArtifactOutputMap(unsplit=("/a=b=x", "/a=b=y")).plan(both)


def test_a_watchers_lock_goes_along_when_its_directory_is_replaced() -> None:
    with locked_directory("out") as lock:
        outputs = OutputDirectory("out", lock=lock)
        assert write(outputs.plan(FILES)).notes == ()
        os.rename("out", "old")
        written = write(outputs.plan(FILES))
        assert written.notes == ("out was moved or replaced: the directory that is there now gets the files",)
        assert Path("out/current/config.yaml").exists()
        with pytest.raises(TargetKept), locked_directory("out"):
            pass


def test_a_map_with_one_more_route_is_a_new_map() -> None:
    base = ArtifactOutputMap()
    assert base.route("/config.yaml", "x") != base
    assert base == ArtifactOutputMap()


def directory(files: list[ArtifactFile]) -> Plan:
    return OutputDirectory("out").plan(files)


def below(files: list[ArtifactFile]) -> Plan:
    return ArtifactOutputMap().under("out").plan(files)


@pytest.mark.parametrize("plan", [directory, below])
@pytest.mark.parametrize(
    ("files", "why"),
    [
        ([], "no files"),
        ([ArtifactFile("//etc/x", "")], "empty"),
        ([ArtifactFile("/../x", "")], "illegal path"),
        ([ArtifactFile("/a", ""), ArtifactFile("/a/b", "")], "collides"),
        ([ArtifactFile("/a", ""), ArtifactFile("/a", "")], "twice"),
        ([ArtifactFile("/a", ""), ArtifactFile("a", "")], "collides"),
        ([ArtifactFile("/a", "x" * (8 * 2**20 + 1))], "the limit is 8388608"),
        ([ArtifactFile(f"/{n}", "x" * 6_000_000) for n in range(3)], "the limit is 16777216"),
        ([ArtifactFile(f"/{n}", "") for n in range(1001)], "the limit is 1000"),
    ],
)
def test_what_must_not_be_written_is_refused_before_anything_is_touched(
    plan: Callable[[list[ArtifactFile]], Plan], files: list[ArtifactFile], why: str
) -> None:
    with pytest.raises(IntegrityError, match=why):
        plan(files)
    assert os.listdir() == []


@pytest.mark.parametrize("plan", [directory, below])
def test_what_is_exactly_at_the_limits_is_written(plan: Callable[[list[ArtifactFile]], Plan]) -> None:
    assert len(write(plan([ArtifactFile(f"/{n}", "") for n in range(1000)])).paths) == 1000
    assert write(plan([ArtifactFile("/a", "x" * 8 * 2**20), ArtifactFile("/b", "y" * 8 * 2**20)])).changed


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        (ArtifactOutputMap(), "'/config.yaml' has no target"),
        (
            ArtifactOutputMap().route("config.yaml", "x").route("/tls/key.pem", "y"),
            "'/config.yaml' has no target",
        ),
        (ArtifactOutputMap().route("/config.yaml", "x").route("/tls/key.pem", "./x"), "have the same target"),
        (
            ArtifactOutputMap().route("/config.yaml", "x").route("/tls/key.pem", "link/x"),
            "have the same target",
        ),
        (ArtifactOutputMap().route("/config.yaml", "x").route("/tls/key.pem", "x/y"), "is routed below"),
        (ArtifactOutputMap().route("/config.yaml", "r/tls/key.pem").under("r"), "have the same target"),
        (ArtifactOutputMap().route("/config.yaml", "r/tls").under("r"), "is routed below"),
        (ArtifactOutputMap().route("/config.yaml", "dir/").under("r"), "not the name of a file"),
        (ArtifactOutputMap().route("/config.yaml", "..").under("r"), "not the name of a file"),
        (ArtifactOutputMap().route("/config.yaml", ".x.cfgsync-stage").under("r"), "cfgsync stages files as"),
    ],
)
def test_a_map_that_does_not_fit_is_refused_before_anything_is_touched(
    outputs: ArtifactOutputMap, why: str
) -> None:
    Path("link").symlink_to(".")
    with pytest.raises(IntegrityError, match=why):
        outputs.plan(FILES)
    assert os.listdir() == ["link"]


def test_a_route_for_a_file_that_did_not_come_is_no_error() -> None:
    outputs = ArtifactOutputMap().route("/config.yaml", "x").route("/deployment.yaml", "y")
    assert write(outputs.plan(FILES[:1])).paths == ("x",)


def test_a_routed_path_may_be_any_text() -> None:
    assert write(ArtifactOutputMap().route("//../ü", "x").plan([ArtifactFile("//../ü", "text")])).paths == (
        "x",
    )


def test_a_target_that_is_a_directory_leaves_everything_as_it_was() -> None:
    Path("here.yaml").write_text("old")
    Path("taken").mkdir()
    plan = ArtifactOutputMap().route("/config.yaml", "here.yaml").route("/tls/key.pem", "taken").plan(FILES)
    with pytest.raises(DiskError, match="it is a directory"):
        write(plan)
    assert Path("here.yaml").read_text() == "old"
    assert sorted(os.listdir()) == ["here.yaml", "taken"]


@pytest.mark.parametrize("plan", [directory, below])
def test_writing_again_changes_nothing_unless_something_was_altered(
    plan: Callable[[list[ArtifactFile]], Plan],
) -> None:
    planned = plan(FILES)
    assert not in_place(planned)
    written = write(planned)
    assert in_place(planned)
    assert not write(planned).changed
    Path(written.paths[0]).write_text("id: node-2\n")
    assert not in_place(planned)
    assert write(planned).changed
    assert Path(written.paths[0]).read_text() == "id: node-1\n"


def test_outputs_load_no_event_loop_and_no_web_client() -> None:
    program = (
        "import sys, cfgsync_runtime.node.outputs, cfgsync_runtime.node.memory.state; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"asyncio", "aiohttp", "aiofiles", "pydantic", "typer", "pathlib", "logging"} & set(loaded)
