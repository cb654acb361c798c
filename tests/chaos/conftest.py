from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Place


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A directory to run commands in; what was started in it ends with the test. What is measured is no fork."""
    with Place(tmp_path / "place", forks=request.node.get_closest_marker("timed") is None) as made:
        yield made
