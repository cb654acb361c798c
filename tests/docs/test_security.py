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


INDIFFERENT = frozenset(
    [
        "--accept",
        "--bundle",
        "--check",
        "--chown",
        "--config",
        "--health",
        "--health-within",
        "--healthy-after",
        "--json",
        "--json-logs",
        "--keep",
        "--late",
        "--legacy-init-with-node",
        "--metadata",
        "--id",
        "--ip",
        "--no-page",
        "--on-change",
        "--on-drift",
        "--out",
        "--port",
        "--reload",
        "--reload-command",
        "--revision",
        "--rollout-group",
        "--run-timeout",
        "--server",
        "--shrink-guard",
        *(
            "--rollout",
            "--max-parallel",
            "--canary",
            "--bake",
            "--deadline",
            "--max-failures",
            "--on-failure",
        ),
        "--splay",
        "--startup-mode",
        "--state",
        "--stop-timeout",
        "--store",
        "--title",
        "--ttl",
        "--wait",
        "--watch",
    ]
)
"""Flags of `serve` and `fetch` that open nothing and close nothing. A new one is put here, or on the page."""


def test_every_flag_of_a_server_and_a_node_is_on_the_page_or_known_to_open_nothing() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    reference = (ROOT / "docs/reference/cli.md").read_text("utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    for command in ("serve", "fetch"):
        (usage,) = re.findall(rf"(?s)Usage: cfgsync {command} .*?```", reference)
        flags = set(re.findall(r"(?m)^  (--[a-z][a-z-]+)", usage))
        assert len(flags) > 20
        assert flags - named - INDIFFERENT == set(), command
