"""The engine of another distribution passes the contract suite, is found by its entry point, and serves."""

import tomllib
from pathlib import Path

import aiohttp
import pytest

from cfgsync_adapter import ArtifactFile, MaterializedArtifacts
from cfgsync_core import StoreRefused
from cfgsync_runtime import open_backend, serving_snapshot
from tests.docs.blocks import blocks

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/howto/engine.md"


class Names:
    def materialize_snapshot(self, registrations):
        return MaterializedArtifacts.from_nodes(
            {node.identifier: [ArtifactFile("/name", node.identifier)] for node in registrations}
        )


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """What an installation leaves: the module in the path, and its metadata beside it."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    metadata = tmp_path / "cfgsync_shared-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cfgsync-shared\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}" for name, value in project["entry-points"]["cfgsync.engines"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[cfgsync.engines]", *lines, ""]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(HERE)
    return metadata


def test_its_readme_runs_as_written(run_readme, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:schemathesis -p no:anyio -p no:hypothesispytest")
    run_readme()


def test_what_the_page_shows_are_the_files_here():
    shown = {block.title: block.text for block in blocks(PAGE) if block.title}
    assert {"shared_engine.py", "test_shared_engine.py"} <= set(shown)
    assert {name: (HERE / name).read_text() for name in shown} == shown


async def test_two_servers_find_it_by_its_scheme_and_share_its_store(installed):
    async with (
        serving_snapshot(Names(), store="shared:fleet") as one,
        serving_snapshot(Names(), store="shared:fleet") as other,
        aiohttp.ClientSession() as session,
    ):
        node = {"identifier": "a", "ip": "10.0.0.1"}
        async with session.post(one.url + "/register", json=node) as answer:
            assert answer.status == 202
            headers = {"Prefer": "wait=10", "Cfgsync-Version": answer.headers["Cfgsync-Version"]}
        async with session.post(other.url + "/node", json=node, headers=headers) as answer:
            assert answer.status == 200


async def test_without_it_the_scheme_is_refused_and_the_others_are_named():
    with pytest.raises(StoreRefused, match="no engine for scheme 'shared'") as refused:
        open_backend("shared:fleet")
    assert refused.value.hint.startswith("give a store as memory:… or ")


async def test_an_engine_that_cannot_be_loaded_is_refused_with_its_package(installed):
    (installed / "entry_points.txt").write_text("[cfgsync.engines]\nbroken = not_there:open_it\n")
    with pytest.raises(
        StoreRefused, match="'broken' cannot be loaded: No module named 'not_there'"
    ) as refused:
        open_backend("broken:x")
    assert "install cfgsync-shared again" in refused.value.hint
