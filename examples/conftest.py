"""A test runs an example as its README says, in a copy of its directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks, run_page

collect_ignore = [
    "fixtures/test_app.py",
    "engine/test_shared_engine.py",
]  # their READMEs run them, as a reader would


@pytest.fixture
def run_readme(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[str]]:
    """Run the blocks of the README beside the test, except those that it only `shows`; return what each printed."""
    example = request.path.parent

    def run(shows: Callable[[Block], bool] = lambda _: False) -> list[str]:
        copy = tmp_path / example.name
        shutil.copytree(example, copy, ignore=shutil.ignore_patterns(request.path.name, "__pycache__"))
        page = example / "README.md"
        return list(run_page(page, copy, [block for block in blocks(page) if not shows(block)]))

    return run
