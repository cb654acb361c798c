"""Which tests measure time (`timed`), and which share something costly, so that one of pytest's workers runs them all."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(config.rootpath).parts[:2]
        if folder == ("tests", "chaos"):
            item.add_marker(pytest.mark.timed)
        elif folder == ("tests", "distributions"):
            item.add_marker(pytest.mark.xdist_group("distributions"))
