"""Which tests measure time (`timed`), and which share something costly, so that one of pytest's workers runs them all."""

from __future__ import annotations

import pytest

UNTIMED = {
    "test_bad_network",
    "test_durability",
    "test_full_disk",
    "test_fuzz",
    "test_hostile_server",
    "test_schemathesis",
}
"""Of `tests/chaos`: what they wait for, they wait for long enough on a busy machine."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(config.rootpath).parts[:2]
        if folder == ("tests", "chaos"):
            item.add_marker(
                pytest.mark.xdist_group(item.path.stem) if item.path.stem in UNTIMED else pytest.mark.timed
            )
        elif folder == ("tests", "distributions"):
            item.add_marker(pytest.mark.xdist_group("distributions"))
