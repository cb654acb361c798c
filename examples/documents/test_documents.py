"""The README runs as written: a flag, a promotion, a degraded start, a node's file, a web application."""

import pytest


@pytest.mark.timeout(300)
def test_its_readme_runs_as_written(run_readme):
    flag, promoted, started, node, web = run_readme()
    assert "c: the new search is on" in flag
    assert "flags (production) revision 3" in promoted
    assert "DEGRADED loaded_cached_snapshot" in started
    assert "players: 100" in node
    assert "at most 7 players" in web
