"""Whoever installs the wheels gets their types: mypy and pyright, at their strictest, read them out of the packages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

from .distributions import ROOT, run

HERE = Path(__file__).parent
MORE = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["enable_error_code"]
CONSUMER = HERE / "consumer.py"
MISTAKEN = HERE / "mistaken_consumer.py"
WRONG = {
    number
    for number, line in enumerate(MISTAKEN.read_text().splitlines(), 1)
    if line.partition("  # wrong")[1]
}


@pytest.fixture(scope="module")
def pyright() -> str:
    """Pyright, as npm has it. Without it the test is skipped, and says so loudly; where engines are required, it fails."""
    fetched = ROOT / ".venv" / "engines" / "node_modules" / ".bin" / "pyright"
    found = str(fetched) if os.access(fetched, os.X_OK) else shutil.which("pyright")
    if found is not None:
        return found
    line = "NOT TESTED: the types were not checked with pyright, which was not found (scripts/engines fetches it)"
    if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1":
        pytest.fail(line)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(line, stacklevel=1)
    pytest.skip(line)


def mypy_on(installed: Path, tmp_path: Path, *files: Path) -> tuple[int, set[tuple[str, int]], str]:
    """Exit code, (file, line) of each error, and what was printed; outside of the workspace and its settings."""
    command = [sys.executable, "-I", "-m", "mypy", "--strict", "--config-file=", "--show-error-codes"]
    command += ["--python-executable", str(installed), "--cache-dir", str(tmp_path / "cache")]
    # with the settings of `make check`, what that has found out about libraries is read from its cache
    command += ["--python-version", "3.11", *(f"--enable-error-code={code}" for code in MORE)]
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", tmp_path / "cache")
    ended = subprocess.run(
        [*command, *(shutil.copy(file, tmp_path) for file in files)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    errors = re.findall(r"(?m)^(?:.*/)?(\w+\.py):(\d+): error: ", ended.stdout)
    return ended.returncode, {(name, int(line)) for name, line in errors}, ended.stdout + ended.stderr


def pyright_on(pyright: str, installed: Path, tmp_path: Path, *files: Path) -> set[tuple[str, int]]:
    """(file, line) of each error."""
    settings = tmp_path / "pyrightconfig.json"
    for file in files:
        shutil.copy(file, tmp_path)  # outside of the workspace: its sources are not to be found beside them
    names = [file.name for file in files]
    settings.write_text(json.dumps({"include": names, "typeCheckingMode": "strict"}))
    command = [pyright, "--outputjson", "--project", str(settings), "--pythonpath", str(installed)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    report = json.loads(ended.stdout)
    assert report["summary"]["filesAnalyzed"] == len(files)
    found = [one for one in report["generalDiagnostics"] if one["severity"] == "error"]
    for one in found:
        print(one["file"], one["range"]["start"]["line"] + 1, one["message"])
    return {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in found}


def test_the_consumer_runs(installed: Path, tmp_path: Path) -> None:
    assert run([str(installed), str(CONSUMER)], cwd=tmp_path) == "2\n"


def test_mypy_finds_the_mistakes_and_nothing_else(installed: Path, tmp_path: Path) -> None:
    code, errors, printed = mypy_on(installed, tmp_path, CONSUMER, MISTAKEN)
    assert (code, errors) == (1, {(MISTAKEN.name, line) for line in WRONG}), printed


def test_pyright_finds_the_mistakes_and_nothing_else(pyright: str, installed: Path, tmp_path: Path) -> None:
    errors = pyright_on(pyright, installed, tmp_path, CONSUMER, MISTAKEN)
    assert errors == {(MISTAKEN.name, line) for line in WRONG}
