"""`cfgsync demo` at a terminal: who is where and who is missing, drawn over; then the tree. Ctrl-C leaves nothing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cfgsync_core import Condition, FleetStatus, NodeStatus
from cfgsync_runtime.cli.parts.live_demo import named
from cfgsync_runtime.demo.progress import Progress
from tests.terminals import Terminal

CFGSYNC = Path(sys.executable).with_name("cfgsync")
EPOCH = "0000000f-4240-7000-8000-000000000000"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def demo(tmp_path: Path) -> Callable[..., Terminal]:
    (tmp_path / "tmp").mkdir()
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("CFGSYNC_", "NO_COLOR"))}

    def start(*words: str, more: dict[str, str] | None = None, **how: object) -> Terminal:
        environment = {**kept, "TMPDIR": str(tmp_path / "tmp"), **(more or {})}
        return Terminal([CFGSYNC, "demo", *words], environment=environment, cwd=tmp_path, **how)  # type: ignore[arg-type]

    return start


def test_a_terminal_sees_who_waits_and_who_is_missing_then_the_tree(demo: Callable[..., Terminal]) -> None:
    with demo("--nodes", "6") as terminal:
        terminal.until(lambda text: re.search(r"waiting +5  █+ +node-1, node-2", text) is not None)
        terminal.until("not ready: 5 of 6 nodes, missing node-6")
        assert terminal.end() == 0
    shown = terminal.screen.text
    for line in (
        r"^ +\d\.\d\d s  server up: http://127\.0\.0\.1:\d+",
        r"^ +\d\.\d\d s  ready: generation 1, made from 6 registrations$",
        r"^6 nodes, one machine, 5 of them processes, \d+\.\d s$",
        r"^waiting +0$",
        r"^in place +6  █{24}  node-1, node-2, ",
        r"^ready: generation 2$",
        r"^├── node-1/current -> \.generations/2$",
        r"^6 of 6 nodes booted in \d+\.\d s; its files are removed again",
    ):
        assert re.search(line, shown, re.MULTILINE), shown
    assert shown.count("in place  ") == 1, "the table is drawn over"
    assert not terminal.screen.is_cursor_hidden


def test_forty_columns_without_colours_keep_every_row_in_its_line(demo: Callable[..., Terminal]) -> None:
    with demo("--nodes", "3", columns=40, more={"NO_COLOR": "1"}) as terminal:
        assert terminal.end() == 0
    assert COLOUR.search(terminal.written) is None
    shown = terminal.screen.text.splitlines()
    at = shown.index("ready: generation 2")
    rows = ["not started", "registering", "waiting", "receiving", "in place"]
    assert [re.split(r"  +", line)[0] for line in shown[at - 6 : at - 1]] == rows
    assert shown[at - 2].split() == ["in", "place", "3", "node-1,", "node-2,", "node-3"]


def test_a_dumb_terminal_gets_plain_lines(demo: Callable[..., Terminal]) -> None:
    with demo("--nodes", "1", term="dumb") as terminal:
        assert terminal.end() == 0
    assert "\x1b" not in terminal.written
    assert "1 node, one machine: 1 is a `cfgsync fetch` process" in terminal.written


def test_ctrl_c_in_the_middle_is_130_and_leaves_neither_files_nor_a_hidden_cursor(
    demo: Callable[..., Terminal], tmp_path: Path
) -> None:
    with demo("--nodes", "6") as terminal:
        terminal.until("not ready: 5 of 6 nodes")
        terminal.ctrl_c()
        assert terminal.end() == 130
    assert "Traceback" not in terminal.written
    assert not terminal.screen.is_cursor_hidden
    assert list((tmp_path / "tmp").iterdir()) == []


# ── where everybody is ───────────────────────────────────────────────────────────────────────────────────────────────


def fleet(generation: int | None, *nodes: NodeStatus) -> FleetStatus:
    quorum = Condition("quorum", len(nodes), 6, ("f",))
    made = None if generation is None else f"{EPOCH}.{generation}"
    return FleetStatus(
        generation=made,
        registered=len(nodes),
        waiting=0,
        conditions=() if made else (quorum,),
        nodes=nodes,
    )


def node(name: str, served: int | None = None) -> NodeStatus:
    return NodeStatus(name, True, False, None if served is None else f"{EPOCH}.{served}")


def test_a_node_is_where_the_server_and_its_program_say() -> None:
    seconds = iter((7.0, 9.5))
    progress = Progress(list("abcdef"), clock=lambda: next(seconds))
    for name in "abcde":
        progress.begins(name)
    before = progress.counts(fleet(None, node("a"), node("b")))
    assert (before.why, before.generation) == ("not ready: 2 of 6 nodes, missing f", "none")
    assert {phase: "".join(names) for phase, names in before.phases.items() if names} == {
        "not started": "f",
        "registering": "cde",
        "waiting": "ab",
    }
    progress.ends("a")
    progress.ends("b")
    after = progress.counts(fleet(2, node("a", 2), node("b", 2), node("c", 2), node("d", 1), node("e")))
    assert (after.why, after.generation) == ("", "2")
    assert {phase: "".join(names) for phase, names in after.phases.items() if names} == {
        "not started": "f",
        "waiting": "de",
        "receiving": "c",
        "in place": "ab",
    }
    assert progress.after(6.5) == (0.5, 3.0)
    progress.again()
    assert progress.counts(fleet(2, node("a", 2))).phases["to ask again"] == ["a"]


def test_names_are_as_many_as_fit() -> None:
    names = [f"node-{number}" for number in range(10)]
    assert named(names, 80) == ", ".join(names)
    assert named(names, 30) == "node-0, node-1 and 8 more"
    assert named(names, 25) == "node-0, node-1 and 8 more"
    assert named(names, 24) == "node-0 and 9 more"
    assert named(names, 10) == "node-0 an…"
    assert named([], 10) == ""
