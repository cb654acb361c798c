"""An example is run as its README says, in a copy of its directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.blocks import run_page


@pytest.fixture
def run_readme(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], list[str]]:
    """Run every block of the README beside the test; what each printed."""
    example = request.path.parent

    def run() -> list[str]:
        copy = tmp_path / example.name
        shutil.copytree(example, copy, ignore=shutil.ignore_patterns("test_*", "__pycache__"))
        return list(run_page(example / "README.md", copy))

    return run
