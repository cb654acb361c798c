"""Fixtures for tests against cfgsync. Importing this module loads only pytest; a fixture loads the rest at its first use, and
ends what it has started with the test.

    def test_my_program_reads_its_file(cfgsync_bundle):
        server = cfgsync_bundle({"node-1": {"/config.yaml": "id: node-1\\n"}})
        assert my_program(server.url) == "node-1"
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing.fixtures import BootFleet, ServeBundle, ServeDocuments, ServeMaterializer


@contextmanager
def _server_installed() -> Iterator[None]:
    """Fail in one line where only what a node needs is installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        from .cli.parts.messages import INSTALL_SERVER, OF_THE_SERVER

        if (error.name or "").partition(".")[0] not in OF_THE_SERVER:
            raise
        pytest.fail(
            f"cfgsync's fixtures need {error.name}, which a node does not have: {INSTALL_SERVER}",
            pytrace=False,
        )


@pytest.fixture
def cfgsync_bundle() -> Iterator[ServeBundle]:
    """Serve fixed files, on a free port: `cfgsync_bundle({"node-1": {"/config.yaml": "a: 1\\n"}})`."""
    with _server_installed():
        from .testing.fixtures import ServeBundle

    with ExitStack() as started:
        yield ServeBundle(started)


@pytest.fixture
def cfgsync_server() -> Iterator[ServeMaterializer]:
    """Serve a materializer, on a free port: `cfgsync_server(MyMaterializer()).files("node-1")`."""
    with _server_installed():
        from .testing.fixtures import ServeMaterializer

    with ExitStack() as started:
        yield ServeMaterializer(started)


@pytest.fixture
def cfgsync_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootFleet]:
    """Boot nodes from a materializer: `cfgsync_fleet(MyMaterializer(), 3)["node-1"].read("/config.yaml")`."""
    with _server_installed():
        from .testing.fixtures import BootFleet

    with ExitStack() as started:
        yield BootFleet(started, lambda: tmp_path_factory.mktemp("cfgsync-fleet"))


@pytest.fixture
def cfgsync_documents() -> Iterator[ServeDocuments]:
    """Serve config documents, on a free port: `cfgsync_documents({"limits": {"players": 50}}, env="production").url`."""
    with _server_installed():
        from .testing.fixtures import ServeDocuments

    with ExitStack() as started:
        yield ServeDocuments(started)
