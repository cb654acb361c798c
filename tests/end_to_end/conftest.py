from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Place

STARTED = {"test_good_parent": True, "test_canary_in_processes": False, "test_two_namespaces": False}
"""In these every command is started, which takes longer, but a server where it is True; elsewhere it is a fork of one that is
loaded (tests/forks.py)."""


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A directory to run commands in; what was started in it ends with the test."""
    name = request.path.stem
    with Place(tmp_path / "place", forks=name not in STARTED, forks_servers=STARTED.get(name, False)) as made:
        yield made
