"""Fixtures for tests against cfgsync. Importing this module loads only pytest; a fixture loads the rest at its first use, and
ends what it has started with the test.

    def test_my_program_reads_its_file(cfgsync_bundle):
        server = cfgsync_bundle({"node-1": {"/config.yaml": "id: node-1\\n"}})
        assert my_program(server.url) == "node-1"
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing.fixtures import BootFleet, ServeBundle, ServeMaterializer


@pytest.fixture
def cfgsync_bundle() -> Iterator[ServeBundle]:
    """Serve fixed files, on a free port: `cfgsync_bundle({"node-1": {"/config.yaml": "a: 1\\n"}})`."""
    from .testing.fixtures import ServeBundle

    with ExitStack() as started:
        yield ServeBundle(started)


@pytest.fixture
def cfgsync_server() -> Iterator[ServeMaterializer]:
    """Serve a materializer, on a free port: `cfgsync_server(MyMaterializer()).files("node-1")`."""
    from .testing.fixtures import ServeMaterializer

    with ExitStack() as started:
        yield ServeMaterializer(started)


@pytest.fixture
def cfgsync_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootFleet]:
    """Boot nodes from a materializer: `cfgsync_fleet(MyMaterializer(), 3)["node-1"].read("/config.yaml")`."""
    from .testing.fixtures import BootFleet

    with ExitStack() as started:
        yield BootFleet(started, lambda: tmp_path_factory.mktemp("cfgsync-fleet"))
