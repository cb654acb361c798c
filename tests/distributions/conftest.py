"""Built and installed once: every test of this directory looks at the same wheels."""

from __future__ import annotations

from pathlib import Path

import pytest

from .containerfile import run_below
from .distributions import build_all


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the archives and wheels of all six distributions."""
    target = tmp_path_factory.mktemp("dist")
    build_all(target)
    return target


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheels and what they need from the registry, and nothing else.

    The container file builds the wheels and makes it, so that its steps are run too.
    """
    root = tmp_path_factory.mktemp("image") / "root"
    run_below(root)
    return root / "opt" / "cfgsync" / "bin" / "python"
