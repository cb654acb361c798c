"""SECURITY.md names, for each threat of the analysis, tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| T(\d+) \| .+ \| .+ \| (.+) \|$", re.MULTILINE)
TESTS = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")


@cache
def named_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def test_every_threat_has_a_row_and_every_row_names_tests_that_exist() -> None:
    rows = ROW.findall((ROOT / "SECURITY.md").read_text("utf-8"))
    assert [int(number) for number, _ in rows] == list(range(1, 31))
    for number, shown in rows:
        named = TESTS.findall(shown)
        assert named, f"T{number} names no test"
        assert TESTS.sub("", shown).strip() == "", f"T{number}: {shown}"
        for file, test in named:
            assert (ROOT / file).is_file(), f"T{number}: there is no {file}"
            assert not test or test in named_in(file), f"T{number}: there is no {test} in {file}"


def test_every_flag_that_it_names_is_one() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    reference = (ROOT / "docs/reference/cli.md").read_text("utf-8")
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert flags
    assert {flag for flag in flags if not re.search(rf"{flag}\b", reference)} == set()
