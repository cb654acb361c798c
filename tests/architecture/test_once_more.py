"""`make test` runs a failed test once more, alone: what passes then does not fail the run, and is said. Shown with toy tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLAKY = """
import os, pathlib, pytest
from hypothesis import given, strategies
from tests.seeds import drawn_seed

ALONE = "PYTEST_XDIST_WORKER" not in os.environ

def note(name, what):
    with pathlib.Path(name).open("a") as file:
        print(what, file=file)

def test_seed():
    note("seeds", drawn_seed())
    assert ALONE, "the first words"

@pytest.fixture
def thing():
    assert ALONE

@pytest.mark.parametrize("text", ["a::b [c] d"])
def test_set_up(thing, text):
    pass

@given(strategies.integers())
def test_example(number):
    if ALONE:
        note("examples", number)
    assert number < 1000 or ALONE

def test_passes():
    pass
"""

FAULTS = """
import pathlib, pytest

def before(name, path=pathlib.Path("before")):
    "Whether this test was run before."
    with path.open("a+") as file:
        file.seek(0)
        names = file.read().splitlines()
        print(name, file=file)
    return str(name) in names

def test_fault():
    before("fault")
    assert False

def test_skips_later():
    if before("skips later"):
        pytest.skip("no engine any more")
    assert False

@pytest.mark.parametrize("number", [1, 2])
def test_passes_later(number):
    assert before(number)
"""


@pytest.fixture
def run(tmp_path):
    def run(toys: str, *arguments: str) -> tuple[int, str, str]:
        """The exit status, what was said, and what was noted."""
        (tmp_path / "test_toys.py").write_text(toys)
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p xdist -p _hypothesis_pytestplugin\n")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
        environment.pop("CI", None)  # in which Hypothesis has no database
        notes = tmp_path / "notes"
        ran = subprocess.run(
            [sys.executable, ROOT / "scripts" / "once_more.py", notes, *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        print(ran.stdout, ran.stderr)
        return ran.returncode, ran.stdout, notes.read_text() if notes.exists() else ""

    return run


def test_what_passes_alone_is_flaky_is_named_and_draws_the_same_again(run, tmp_path):
    status, said, noted = run(FLAKY, "-n", "2")
    assert status == 0
    assert sorted(line for line in noted.splitlines() if line.startswith("FLAKY")) == [
        "FLAKY test_toys.py::test_example",
        "FLAKY test_toys.py::test_seed",
        "FLAKY test_toys.py::test_set_up[a::b [c] d]",
    ]
    assert 'search for "test_seed _"' in noted
    assert "_ test_seed _" in said
    assert "the first words" in said
    assert "3 passed" in said, "these, and no other"
    first, second = (tmp_path / "seeds").read_text().split()
    assert first == second
    assert (tmp_path / "examples").read_text().split()[0] == "1000", (
        "the smallest that failed, from a new database"
    )


@pytest.mark.parametrize(
    ("words", "again"), [("fault or later[1]", "1 failed, 1 passed"), ("skips", "1 skipped")]
)
def test_what_does_not_pass_again_fails_the_run(run, words, again):
    status, said, noted = run(FAULTS, "-k", words)
    assert (status, noted) == (1, "")
    assert f" {again} " in said.partition("once more")[2]


@pytest.mark.parametrize(
    ("toys", "arguments"),
    [
        pytest.param(FAULTS, [], id="more than three failures"),
        pytest.param(FAULTS, ["-x", "-k", "passes_later"], id="a run that stopped early"),
        pytest.param(FAULTS + "import no_such_module", ["-n", "1"], id="a file that cannot be read"),
    ],
)
def test_nothing_is_run_once_more_after(run, toys, arguments):
    status, said, noted = run(toys, *arguments)
    assert (status, noted) == (1, "")
    assert "once more" not in said
