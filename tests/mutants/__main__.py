"""`python -m tests.mutants [WORDS]`: put each deliberate fault into a copy of the tree and see its tests turn red.

Prints a table; exit 1 when a fault survives, does not apply, or the copy without a fault is not green.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .faults import FAULTS, ROOT, DoesNotApply, Fault

AT_ONCE = 2
TIME_LIMIT = 150
COPIED = ("packages", "tests", "benchmarks", "pyproject.toml", "README.md")
_LEFT = shutil.ignore_patterns("__pycache__", "*.egg-info", ".pytest_cache", ".hypothesis")
_WHERE = "import {names}; print(*(m.__file__ for m in ({names},)), sep='\\n')"


class Run(NamedTuple):
    """What pytest said of one selection."""

    color: str
    counts: str
    seconds: float
    said: str


def main(words: list[str]) -> int:
    faults = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cfgsync-mutants-") as scratch:
        selection = dict.fromkeys(test for fault in faults if _possible(fault) for test in fault.tests)
        whole = _run(_copy(Path(scratch), "whole"), selection)
        if whole.color != "green":
            print(
                f"{whole.said}\nthe copy without a fault is {whole.color}: nothing can be said",
                file=sys.stderr,
            )
            return 1
        with ThreadPoolExecutor(AT_ONCE) as pool:
            places = [Path(scratch) / str(number) for number in range(len(faults))]
            runs = list(pool.map(_try, faults, places))
    print("| fault | tests | outcome | seconds |\n| --- | --- | --- | --- |")
    print(f"| none | {whole.counts} | {whole.color} | {whole.seconds:.1f} |")
    for fault, run in zip(faults, runs, strict=True):
        print(f"| {fault.name} | {run.counts} | {run.color} | {run.seconds:.1f} |")
    wrong = [
        (fault, run) for fault, run in zip(faults, runs, strict=True) if run.color not in ("red", "skipped")
    ]
    for fault, run in wrong:
        print(f"\n{fault.name}: {run.color}\n{run.said}", file=sys.stderr)
    caught = sum(run.color == "red" for run in runs)
    print(f"\n{caught} of {len(faults)} faults turn a test red, {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


def _possible(fault: Fault) -> bool:
    return fault.needs is None or shutil.which(fault.needs) is not None


def _try(fault: Fault, place: Path) -> Run:
    if not _possible(fault):
        return Run("skipped", f"{fault.needs} is not installed", 0.0, "")
    copy = _copy(place, "tree")
    try:
        for edit in fault.edits:
            (copy / "packages" / edit.file).write_text(edit.applied(copy))
    except DoesNotApply as error:
        return Run("DOES NOT APPLY", "none", 0.0, str(error))
    run = _run(copy, fault.tests)
    shutil.rmtree(place, ignore_errors=True)
    return run._replace(color="SURVIVES") if run.color == "green" else run


def _copy(place: Path, name: str) -> Path:
    copy = place / name
    for part in COPIED:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, ignore=_LEFT, symlinks=True)
        else:
            copy.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / part)
    return copy


def _run(copy: Path, tests: Iterable[str]) -> Run:
    """The tests, in the copy and of the copy."""
    sources = sorted(copy.glob("packages/*/src"))
    path = os.pathsep.join(map(str, sources))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    _check_imported(copy, sources, environment)
    command = [sys.executable, "-m", "pytest", "-q", "-rfEs", "--tb=short", "-p", "no:cacheprovider", *tests]
    began = time.monotonic()
    try:
        ended = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Run("TIMED OUT", "none ended", time.monotonic() - began, "")
    seconds = time.monotonic() - began
    last = (ended.stdout.strip().splitlines() or [""])[-1]
    counts = ", ".join(re.findall(r"\d+ (?:passed|failed|skipped|errors?)", last)) or "none"
    # pytest: 0 all passed, 1 some failed, everything else is a mistake in the selection
    color = {0: "green", 1: "red"}.get(ended.returncode, f"BROKEN (pytest said {ended.returncode})")
    if "error" in counts:
        color = "BROKEN (an error is not a failure)"
    if color == "green" and "passed" not in counts:
        color = "skipped" if "skipped" in counts else "BROKEN (nothing ran)"
    return Run(color, counts, seconds, ended.stdout[-3_000:] + ended.stderr[-1_000:])


def _check_imported(copy: Path, sources: list[Path], environment: dict[str, str]) -> None:
    names = sorted(init.parent.name for source in sources for init in source.glob("*/__init__.py"))
    code = _WHERE.format(names=", ".join(names))
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=environment, capture_output=True, text=True, check=True
    )
    elsewhere = [line for line in found.stdout.splitlines() if not Path(line).is_relative_to(copy)]
    if elsewhere or not found.stdout:
        sys.exit(f"not the copy is imported but {', '.join(elsewhere)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
