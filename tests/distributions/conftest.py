"""Built and installed once: every test of this directory looks at the same wheels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.once import once

from .containerfile import run_below
from .distributions import build_all, install_below


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever comes first builds and installs for all, from a registry: each step of that has a limit of its own."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1_800))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the archives and wheels of all six distributions."""
    return once(tmp_path_factory, "dist", build_all)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheels and what they need from the registry, and nothing else.

    The container file builds the wheels and makes it, so that its steps are run too.
    """
    return once(tmp_path_factory, "image", run_below) / "opt" / "cfgsync" / "bin" / "python"


@pytest.fixture(scope="session")
def of_a_node(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds `cfgsync-runtime` and what it needs."""
    place = once(tmp_path_factory, "node", lambda target: install_below(target, built, "cfgsync-runtime"))
    return place / "bin" / "python"
