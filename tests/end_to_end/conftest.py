from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Place

STARTED = {
    "test_good_parent",
    "test_canary_in_processes",
    "test_two_namespaces",
}
"""In these every command is started, which takes longer; elsewhere it is a fork of one that is loaded (tests/forks.py)."""


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A directory to run commands in; what was started in it ends with the test."""
    with Place(tmp_path / "place", forks=request.path.stem not in STARTED) as made:
        yield made
