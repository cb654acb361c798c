"""The README of the static bundle runs."""


def test_its_readme_runs_as_written(run_readme):
    assert len(run_readme()) == 3
