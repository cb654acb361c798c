from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A directory to run commands in; what was started in it ends with the test."""
    with Place(tmp_path / "place") as made:
        yield made
