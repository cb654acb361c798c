"""`cfgsync status` before somebody's eyes: what fits where, colours, what a foreign word can do, and `--watch`."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from cfgsync_core import FleetStatus, NodeStatus, ServerUrl
from cfgsync_core.wire.status import (
    NODE_STATES,
    FleetState,
    MissingNode,
    NodeBehind,
    NodeDrift,
    RolloutStatus,
    State,
    TlsStatus,
)
from cfgsync_runtime.cli.node import list_nodes
from cfgsync_runtime.cli.parts.fleet_table import Page, is_known, one, summary, table
from cfgsync_runtime.cli.parts.live_status import watch
from cfgsync_runtime.cli.parts.messages import NoAnswer
from cfgsync_runtime.cli.parts.node_lines import node_lines
from cfgsync_runtime.cli.parts.server_client import ServerClient
from cfgsync_runtime.cli.parts.terminal import cells, fitted
from cfgsync_runtime.cli.parts.wait_applied import wait_until_applied
from cfgsync_runtime.operator.node_list import ListedNode
from cfgsync_runtime.page.formatting import badge
from tests.scripted_server import Cut, Heard, Says, ScriptedServer
from tests.seeds import drawn_seed
from tests.terminals import Terminal

PROGRAM = (sys.executable, "-c", "from cfgsync_runtime.cli import main; main()")
GENERATION = "0000000f-4240-7000-8000-000000000000.3"
SEEN = "2026-01-02T03:04:05Z"
EVIL = "\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u202e<script>"
COLOUR = re.compile(r"\x1b\[[0-9;]+m")


def node(name: str, **more: object) -> dict[str, object]:
    return {"identifier": name, "registered": True, "waiting": False, "last_seen": SEEN, **more}


def applied(name: str) -> dict[str, object]:
    return node(name, served=GENERATION, applied=GENERATION, state="applied")


def fleet(*nodes: dict[str, object], reason: str = "", **more: object) -> Says:
    words = {
        "generation": GENERATION if not reason else None,
        "state": "not_ready" if reason else "converging",
        "revision": 4,
        "registered": len(nodes),
        "waiting": sum(bool(each["waiting"]) for each in nodes),
        "applied": sum("applied" in each for each in nodes),
        "reason": reason,
        "nodes": nodes,
        "converged": False,
        **more,
    }
    return Says(200, json.dumps(words).encode())


MIXED = fleet(
    applied("node-1"),
    node("node-2", waiting=True, state="not_ready"),
    node("node-3", served=GENERATION, state="served"),
    node("node-4", last_failure="disk full", served=GENERATION, state="not_applied"),
    reason="waiting for 5 nodes, have 4",
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("CFGSYNC_", "NO_COLOR"))
    }


@pytest.fixture
def status(environment: dict[str, str], tmp_path: Path) -> Callable[..., Terminal]:
    """`cfgsync status` in a terminal."""

    def start(
        server: ScriptedServer, *words: str, more: dict[str, str] | None = None, **how: object
    ) -> Terminal:
        return Terminal(
            [*PROGRAM, "status", *words, "--server", server.url],
            environment={**environment, **(more or {})},
            cwd=tmp_path,
            **how,  # type: ignore[arg-type]
        )

    return start


# ── what fits ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_whatever_a_server_says_fits_any_width_and_moves_no_cursor() -> None:
    rng = random.Random(drawn_seed())
    letters = string.printable + EVIL + "节点é\u0301"

    def word(most: int) -> str:
        return "".join(rng.choice(letters) for _ in range(rng.randrange(most)))

    for _ in range(200):
        page = Page(rng.randrange(20, 160), rng.random() < 0.5)
        nodes = [
            NodeStatus(
                word(140),
                rng.random() < 0.9,
                rng.random() < 0.5,
                word(60),
                word(60),
                word(90),
                word(30),
                word(300),
                word(30),
            )
            for _ in range(3)
        ]
        told = FleetStatus(
            registered=3,
            waiting=1,
            generation=word(60),
            state=word(30),
            reason=word(400),
            insecure=(word(20),),
            behind=(NodeBehind(word(99), word(99)),),
        )
        for line in [*table(told, nodes, page), *one(nodes[0], page)]:
            plain = COLOUR.sub("", line) if page.colours else line
            assert cells(plain) <= page.width
            assert plain.isprintable(), plain


def test_forty_columns_keep_each_node_in_a_line_with_its_state(status: Callable[..., Terminal]) -> None:
    with ScriptedServer([MIXED]) as server, status(server, columns=40) as terminal:
        assert terminal.end() == 0
    shown = terminal.screen.text.splitlines()
    assert "not ready: waiting for 5 nodes, have 4" in shown
    assert [line.split() for line in shown[-5:]] == [
        ["NODE", "STATE", "SERVED", "APPLIED"],
        ["node-1", "applied", "3", "3"],
        ["node-2", "not_ready", "-", "-"],
        ["node-3", "served", "3", "-"],
        ["node-4", "not_applied", "3", "-"],
    ]


def test_nodes_that_are_behind_are_named_with_the_reason(status: Callable[..., Terminal]) -> None:
    behind = [{"identifier": name, "reason": "it has not asked"} for name in "abcd"]
    told = fleet(applied("z"), behind=behind, behind_count=7)
    with ScriptedServer([told]) as server, status(server, columns=200) as terminal:
        assert terminal.end() == 0
    why = "(it has not asked)"
    assert f"behind: a {why}, b {why}, c {why} and 4 more" in terminal.screen.text.splitlines()


def test_sixty_columns_show_the_time_without_the_day_and_eighty_all_of_it(
    status: Callable[..., Terminal],
) -> None:
    for columns, seen in ((60, "03:04:05Z"), (80, SEEN), (200, SEEN)):
        with ScriptedServer([MIXED]) as server, status(server, columns=columns) as terminal:
            assert terminal.end() == 0
        assert terminal.screen.text.splitlines()[-1].split()[-1] == seen


def test_a_wide_terminal_shows_a_long_name_whole(status: Callable[..., Terminal]) -> None:
    name = "n" * 60
    with ScriptedServer([fleet(applied(name))]) as server, status(server, columns=120) as terminal:
        assert terminal.end() == 0
    assert f"\n{name} applied" in terminal.screen.text


# ── colours ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_colours_are_for_terminals_only_and_never_with_no_color_or_a_dumb_one(
    status: Callable[..., Terminal], environment: dict[str, str]
) -> None:
    written = []
    for how in ({}, {"more": {"NO_COLOR": "1"}}, {"term": "dumb"}):
        with ScriptedServer([MIXED]) as server, status(server, **how) as terminal:
            assert terminal.end() == 0
        written.append(terminal.written)
    with ScriptedServer([MIXED]) as server:
        piped = subprocess.run(
            [*PROGRAM, "status", "--server", server.url],
            capture_output=True,
            text=True,
            env={**environment, "FORCE_COLOR": "1", "TERM": "xterm-256color"},
            timeout=60,
            check=True,
        )
    coloured, *others = written
    assert "\x1b[31mnot_applied" in coloured
    assert [text.replace("\r\n", "\n") for text in others] == [piped.stdout] * 2
    assert "\x1b" not in piped.stdout
    assert COLOUR.sub("", coloured).replace("\r\n", "\n") == piped.stdout


def test_words_of_a_server_never_reach_the_terminal_as_commands(status: Callable[..., Terminal]) -> None:
    evil = fleet(node(EVIL, served=EVIL, applied=EVIL, last_seen=EVIL), reason=EVIL, insecure=[EVIL])
    alone = Says(
        200, json.dumps(node(EVIL, last_failure=EVIL, reason=EVIL, served=EVIL, last_seen=EVIL)).encode()
    )
    refused = Says(200, f'{{"registered": "{EVIL}"'.encode())
    for words, says, code in (
        ((), evil, 0),
        (("node-1",), alone, 0),
        ((), refused, 6),
    ):
        with ScriptedServer([says]) as server, status(server, *words) as terminal:
            assert terminal.end() == code
        bare = COLOUR.sub("", terminal.written).replace("\r\n", "")
        assert bare.isprintable(), bare
        assert terminal.screen.text  # raises for an escape that is not ours


# ── --watch at a terminal ────────────────────────────────────────────────────────────────────────────────────────────


def test_watch_draws_the_change_and_ctrl_c_leaves_the_terminal_as_it_was(
    status: Callable[..., Terminal],
) -> None:
    def told(heard: Heard) -> Says:
        return (
            fleet(node("node-1", waiting=True), reason="waiting for 2")
            if len(server.heard) < 3
            else fleet(applied("node-1"))
        )

    with ScriptedServer(told) as server, status(server, "--watch") as terminal:
        terminal.until("not ready: waiting for 2")
        assert terminal.screen.is_alternate
        assert terminal.screen.is_cursor_hidden
        terminal.until("applied     3")
        terminal.ctrl_c()
        assert terminal.end() == 130
    screen = terminal.screen
    assert (screen.is_alternate, screen.is_cursor_hidden) == (False, False)
    assert "generation 3, 1 registered, 1 applied" in screen.text
    assert "waiting for 2" not in screen.text, "what is over is not left behind"
    assert "Traceback" not in terminal.written


def test_a_terminated_watch_gives_the_terminal_back_too(status: Callable[..., Terminal]) -> None:
    with ScriptedServer([MIXED]) as server, status(server, "--watch") as terminal:
        terminal.until("node-4")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 143
    assert not terminal.screen.is_alternate
    assert "Traceback" not in terminal.written


def test_a_window_that_becomes_narrow_is_drawn_anew_and_fits(status: Callable[..., Terminal]) -> None:
    with ScriptedServer([MIXED]) as server, status(server, "--watch", columns=80) as terminal:
        terminal.until(SEEN)
        before = len(terminal.written)
        terminal.resize(40, 10)
        terminal.until(lambda text: text.count("NODE   STATE") >= 2 or "STATE      SERVED APPLIED" in text)
        terminal.ctrl_c()
        assert terminal.end() == 130
    narrow = terminal.written[before:].rpartition("\x1b[H")[2].partition("\x1b[?25h")[0]
    lines = [
        COLOUR.sub("", line).replace("\x1b[K", "").replace("\x1b[J", "") for line in narrow.split("\r\n")
    ]
    assert max(map(len, lines)) <= 40 + len("^C")
    assert len(lines) <= 10


def test_a_screen_that_is_too_small_shows_who_is_in_the_way_of_the_others(
    status: Callable[..., Terminal],
) -> None:
    many = [applied(f"node-{number:02}") for number in range(40)]
    many[33] = node("node-33", state="not_applied")
    many[37] = node("node-37", state="not_ready")
    with ScriptedServer([fleet(*many)]) as server, status(server, "--watch", rows=10) as terminal:
        terminal.until("more: cfgsync status")
        terminal.ctrl_c()
        assert terminal.end() == 130
    drawn = terminal.written.partition("\x1b[?25h")[0].rpartition("\x1b[H")[2]
    lines = COLOUR.sub("", drawn).replace("\x1b[K", "").replace("\x1b[J", "").replace("^C", "").split("\r\n")
    assert len(lines) <= 10
    at = next(index for index, line in enumerate(lines) if line.startswith("NODE"))
    assert [line.split()[:2] for line in lines[at + 1 : at + 4]] == [
        ["node-33", "not_applied"],
        ["node-37", "not_ready"],
        ["node-00", "applied"],
    ]
    assert lines[-1] == "… 37 more: cfgsync status"


# ── --watch off a terminal ───────────────────────────────────────────────────────────────────────────────────────────


class Enough(Exception):
    """The test has seen as much as it wanted."""


def after(looks: int) -> Callable[[float], None]:
    """Sleeps not at all, and ends the watch after so many looks."""
    left = iter(range(looks - 1))

    def sleep(_: float) -> None:
        if next(left, None) is None:
            raise Enough

    return sleep


@pytest.fixture
def blocks(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """What a watch off a terminal prints, look by look."""

    def look(script: list[Says | Cut], identifier: str | None = None, as_json: bool = False) -> str:
        with (
            ScriptedServer(script) as server,
            ServerClient(ServerUrl.parse(server.url)) as client,
            pytest.raises(Enough),
        ):
            watch(client, identifier, as_json, every=0.0, sleep=after(len(script)))
        return capsys.readouterr().out

    return look


def test_off_a_terminal_there_is_a_block_for_each_change_with_the_nodes_that_changed(
    blocks: Callable[..., str],
) -> None:
    later = {**applied("a"), "last_seen": "2026-01-02T03:04:59Z"}
    said = blocks(
        [
            fleet(node("a", waiting=True), node("b", waiting=True), reason="waiting for 3"),
            fleet(node("a", waiting=True), node("b", waiting=True), reason="waiting for 3"),
            fleet(applied("a"), node("b", waiting=True)),
            fleet(later, node("b", waiting=True)),  # seen again is no change
            fleet(later),
        ]
    )
    title = "NODE                   STATE       SERVED     APPLIED    LAST SEEN"
    first, second, third = said.rstrip("\n").split("\n\ngeneration")
    assert first.splitlines()[0] == "generation -, 2 registered, 2 held requests, 0 applied"
    assert [line.split()[0] for line in first.partition(title)[2].split("\n")[1:]] == ["a", "b"]
    assert [line.split()[:2] for line in second.partition(title)[2].split("\n")[1:]] == [["a", "applied"]]
    assert third.endswith("1 applied\nconverging\nb has left")
    assert "\x1b" not in said


def test_a_server_that_is_away_for_a_while_is_a_line_and_is_waited_for(blocks: Callable[..., str]) -> None:
    said = blocks([fleet(applied("a")), Cut(), Cut(), fleet(applied("a"))])
    assert said.count("no answer from") == 1
    assert said.count("generation 3, 1 registered") == 2


def test_a_server_that_is_not_there_at_first_is_told_at_once() -> None:
    with (
        ScriptedServer([Says(200, b"<html>")]) as server,
        ServerClient(ServerUrl.parse(server.url)) as client,
        pytest.raises(NoAnswer) as told,
    ):
        watch(client, None, False, every=0.0, sleep=after(1))
    assert told.value.code == 6


def test_watch_as_json_is_a_line_for_each_change(blocks: Callable[..., str]) -> None:
    once, again = fleet(node("a", waiting=True)), fleet(applied("a"))
    later = fleet({**applied("a"), "last_seen": "2026-01-02T03:04:59Z"})
    said = [json.loads(line) for line in blocks([once, once, again, later], as_json=True).splitlines()]
    assert said == [json.loads(once.body), json.loads(again.body)]


def test_one_node_can_be_watched(blocks: Callable[..., str]) -> None:
    def alone(**more: object) -> Says:
        return Says(200, json.dumps(node("a", **more)).encode())

    failed = alone(last_failure="disk full", state="not_applied")
    said = blocks([alone(state="ready"), alone(state="ready"), failed], identifier="a")
    assert [line for line in said.splitlines() if line.startswith("a: ")] == ["a: ready", "a: not_applied"]


def test_a_watch_into_a_pipe_says_the_first_block_at_once_and_ctrl_c_is_130(
    environment: dict[str, str],
) -> None:
    with ScriptedServer([MIXED]) as server:
        process = subprocess.Popen(
            [*PROGRAM, "status", "--watch", "--server", server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        assert process.stdout is not None
        until = time.monotonic() + 60
        while not process.stdout.readline().startswith(b"node-4"):
            assert time.monotonic() < until
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"")


@pytest.mark.parametrize("state", get_args(State))
def test_every_state_of_a_node_has_one_word_in_the_table_and_on_the_page(state: State) -> None:
    node = NodeStatus("a", state=state)
    shown = list(table(FleetStatus(registered=1, waiting=0), [node], Page()))
    assert shown[-1].split()[:2] == ["a", fitted(state, 11)]
    assert next(one(node, Page())) == f"a: {state}"
    assert state.replace("_", " ") in badge(state)


@pytest.mark.parametrize("state", get_args(FleetState))
def test_every_state_of_the_fleet_is_the_first_word_of_its_reason(state: FleetState) -> None:
    fleet = FleetStatus(registered=1, waiting=0, state=state, reason="why")
    joined = ", but " if state.startswith("converg") else ": "
    assert list(summary(fleet, Page()))[1] == f"{state.replace('_', ' ')}{joined}why"


def test_a_server_that_is_older_than_states_is_shown_without_them() -> None:
    fleet = FleetStatus(registered=1, waiting=0, reason="why")
    shown = list(table(fleet, [NodeStatus("a", registered=True)], Page()))
    assert shown[:2] == ["generation -, 1 registered", "reason: why"]
    assert shown[-1].split() == ["a", "-", "-", "-", "not", "since", "restart"]


def test_a_node_is_shown_with_its_promise_and_one_from_before_the_restart_is_not_shown_as_unknown() -> None:
    before = NodeStatus("a", registered=True, state="applied", applied=GENERATION)
    assert "not since restart" in list(table(FleetStatus(registered=1, waiting=0), [before], Page()))[-1]
    assert "last seen not since restart" in list(one(before, Page()))
    assert "promised to keep in touch: no (serve --ttl does not remove it)" in list(one(before, Page()))
    watches = NodeStatus("b", registered=True, last_seen=SEEN, keepalive=60)
    shown = list(table(FleetStatus(registered=2, waiting=0), [before, watches], Page()))
    assert shown[-1] == "promised to keep in touch: b"
    assert "promised to keep in touch: every 60 s (if silent, serve --ttl removes it)" in list(
        one(watches, Page())
    )
    assert "last seen never" in list(one(NodeStatus("stranger"), Page()))


# ── one vocabulary ───────────────────────────────────────────────────────────────────────────────────────────────────


def counts(**some: int) -> dict[str, int]:
    return {state: some.get(state, 0) for state in NODE_STATES}


def test_the_head_has_the_counts_of_the_states_and_names_every_missing_node() -> None:
    names = [f"node-{at:02}" for at in range(1, 13)]
    reason = "no node has registered; quorum 0 of 12, missing node-01 (never seen), node-02 (never seen) and 10 more"
    fleet = FleetStatus(
        registered=0,
        waiting=0,
        state="empty",
        reason=reason,
        counts=counts(not_registered=12),
        missing=tuple(map(MissingNode, names)),
        converged=False,
    )
    shown = list(summary(fleet, Page(width=300)))
    assert shown == [
        "generation -, 0 registered, 12 not_registered, 0 applied",
        f"empty: {reason}",
        f"also missing: {', '.join(names[2:])}",
    ]
    many = FleetStatus(registered=0, waiting=0, missing=tuple(MissingNode(f"n{at}") for at in range(200)))
    assert "\n".join(summary(many, Page(width=9_000))).endswith("n59 and 140 more")


def test_the_head_of_a_bundle_speaks_of_its_nodes_and_not_of_generations() -> None:
    fleet = FleetStatus(
        registered=1,
        waiting=0,
        state="converging",
        counts=counts(applied=1, ready=1),
        behind=(NodeBehind("b", "its files are ready"),),
        behind_count=1,
        converged=False,
    )
    assert list(summary(fleet, Page())) == [
        "a bundle of 2 nodes, 1 registered, 1 ready, 1 applied",
        "converging",
        "behind: b (its files are ready)",
    ]
    served = NodeStatus("b", served="sha256-" + "ab" * 32, state="served")
    assert list(one(served, Page()))[1] == "served files abababab, applied -"


def test_a_list_of_nodes_is_as_wide_as_its_words_and_has_metadata_when_it_is_wide() -> None:
    nodes = [
        ListedNode("a", state="applied", applied=GENERATION, address="10.0.0.1", metadata={"port": 7}),
        ListedNode("n" * 100, state="not_registered", last_seen=SEEN),
    ]
    title, first, second = node_lines(nodes, Page(), wide=False)
    assert title.split() == ["NODE", "STATE", "ADDRESS", "SERVED", "APPLIED", "LAST", "SEEN"]
    assert first.split() == ["a", "applied", "10.0.0.1", "-", "3", "never"]
    assert second.split() == ["n" * 100, "not_registered", "-", "-", "-", SEEN]
    assert {line.index(word) for line, word in ((first, "10.0.0.1"), (title, "ADDRESS"))} == {
        first.index("10.")
    }
    wide = list(node_lines(nodes, Page(), wide=True))
    assert wide[1].endswith('never                 {"port":7}')
    assert wide[2].endswith(f"{SEEN}  -")
    narrow = list(node_lines(nodes[:1], Page(), columns=40))
    assert narrow[1].split()[-1] == "never"
    assert list(node_lines(nodes[1:], Page(), columns=140))[1].endswith("  03:04:05Z")
    assert list(node_lines(nodes[1:], Page(), columns=200))[1].endswith(SEEN)
    painted = list(node_lines(nodes, Page(colours=True), wide=False))
    assert [COLOUR.sub("", line) for line in painted] == [title, first, second]
    assert "\x1b[32mapplied" in painted[1]


@pytest.mark.parametrize(("state", "node", "code"), [
    ("not_registered", NodeStatus("nobody", state="not_registered"), False),
    ("of a bundle, unknown", NodeStatus("nobody", state="no_files"), False),
    ("of an old server, unknown", NodeStatus("nobody"), False),
    ("of an old server", NodeStatus("a", registered=True), True),
    ("left out by the generation", NodeStatus("a", registered=True, state="no_files"), True),
    ("of a bundle", NodeStatus("a", state="ready"), True),
])  # fmt: skip
def test_a_node_is_known_that_is_registered_or_gets_files(state: str, node: NodeStatus, code: bool) -> None:
    assert is_known(node) == code


@pytest.mark.parametrize(
    ("tls", "says"),
    [
        (TlsStatus(ends="", days_left=30), None),
        (TlsStatus(ends="", days_left=29), "certificate: it ends in 29 days"),
        (TlsStatus(ends="", days_left=-1), "certificate: it has expired"),
        (TlsStatus(ends="", days_left=99, problem="it cannot be used"), "certificate: it cannot be used"),
    ],
)
def test_a_certificate_that_ends_soon_or_cannot_be_used_is_a_line(tls: TlsStatus, says: str | None) -> None:
    lines = table(FleetStatus(registered=0, waiting=0, tls=tls), [], Page.of())
    assert [line for line in lines if line.startswith("certificate")] == ([] if says is None else [says])


@pytest.mark.parametrize(
    ("fleet", "code", "says"),
    [
        (
            FleetStatus(
                registered=1, waiting=0, generation=GENERATION, applied=1, converged=True, state="converged"
            ),
            0,
            "1 node has applied generation 3",
        ),
        (
            FleetStatus(
                registered=3,
                waiting=0,
                generation=GENERATION,
                applied=2,
                converged=True,
                counts=counts(applied=2, no_files=1),
            ),
            0,
            "2 nodes have applied generation 3; 1 node has no files from it",
        ),
        (
            FleetStatus(
                registered=1,
                waiting=0,
                generation=GENERATION,
                applied=1,
                converged=True,
                drifted=(NodeDrift("a", ("/x",)),),
                drifted_count=1,
            ),
            0,
            "1 node has applied generation 3; changed on the node's disk: a (/x)",
        ),
        (
            FleetStatus(registered=0, waiting=0, applied=2, converged=True, counts=counts(applied=2)),
            0,
            "2 nodes have applied the files of the bundle",
        ),
        (
            FleetStatus(
                registered=0,
                waiting=0,
                converged=False,
                counts=counts(ready=1),
                behind=(NodeBehind("a", "it has not asked"),),
                behind_count=1,
            ),
            1,
            "1 of 1 node has not applied the files of the bundle within 0 s: a (it has not asked)",
        ),
    ],
    ids=["one", "one left out", "drifted", "bundle", "bundle behind"],
)
def test_what_waiting_for_applied_ends_with_agrees_in_number(
    fleet: FleetStatus, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        ScriptedServer([Says(200, msgspec.json.encode(fleet))]) as server,
        ServerClient(ServerUrl.parse(server.url)) as client,
    ):
        assert wait_until_applied(client, 0.0, False) == code
    printed = capsys.readouterr()
    assert (printed.err if code else printed.out).splitlines()[0] == says


def test_waiting_for_applied_fails_when_the_generation_is_taken_back_meanwhile(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def told(number: int, reverts: int, converged: bool) -> Says:
        generation = f"{GENERATION[:-1]}{number}"
        rollout = RolloutStatus(
            state="idle" if converged else "rolling", generation=generation, reverts=reverts
        )
        fleet = FleetStatus(
            registered=1,
            waiting=0,
            generation=generation,
            applied=int(converged),
            converged=converged,
            counts=counts(applied=1),
            rollout=rollout,
        )
        return Says(200, msgspec.json.encode(fleet))

    back = told(3, 1, True)
    for before, code in ((told(2, 0, False), 1), (told(1, 0, False), 0), (told(3, 1, False), 0)):
        with (
            ScriptedServer([before, back]) as server,
            ServerClient(ServerUrl.parse(server.url)) as client,
        ):
            assert wait_until_applied(client, 30.0, False) == code
    printed = capsys.readouterr()
    assert "generation 2 was taken back: generation 3 has the files of generation 1 again" in printed.err


def test_all_pages_of_a_large_bundle_are_read_although_no_node_has_registered() -> None:
    pages = {"": ["a", "b"], "b": ["c"], "c": []}

    def told(heard: Heard) -> Says:
        names = pages[heard.path.partition("after=")[2]]
        fleet = FleetStatus(
            registered=0, waiting=0, counts=counts(ready=3), nodes=tuple(NodeStatus(name) for name in names)
        )
        return Says(200, msgspec.json.encode(fleet))

    with ScriptedServer(told) as server, ServerClient(ServerUrl.parse(server.url)) as client:
        assert [node.identifier for node in client.fleet()[1]] == ["a", "b", "c"]


def test_without_an_admin_socket_nodes_are_listed_from_status_and_a_note_says_what_is_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def told(heard: Heard) -> Says:
        asked.append(heard.path)
        if heard.path.startswith("/admin/"):
            return Says(403, b'{"code":"forbidden","message":"operator routes are elsewhere"}')
        return fleet() if "after" in heard.path else fleet(applied("a"), node("b"))

    with ScriptedServer(told) as server:
        list_nodes(server=server.url)
    assert asked == ["/admin/nodes", "/status", "/status?after=b"]
    printed = capsys.readouterr()
    assert [line.split()[:3] for line in printed.out.splitlines()[1:]] == [
        ["a", "applied", "-"],
        ["b", "-", "-"],
    ]
    assert "without addresses and metadata, which only an operator gets" in printed.err
    assert "operator routes are elsewhere" in printed.err


def test_drifted_and_overdue_nodes_are_marked_in_the_table() -> None:
    b = NodeStatus("b", registered=True, state="applied", drifted=("/x", "/y"))
    a = NodeStatus("a", registered=True, state="served", keepalive=20, overdue=40)
    fleet = FleetStatus(
        registered=2, waiting=0, generation=GENERATION, state="converging", drifted=(NodeDrift("b", ("/x", "/y")),), drifted_count=1
    )  # fmt: skip
    lines = list(table(fleet, [a, b], Page(width=120)))
    assert "* changed on the node's disk: b (/x, /y)" in lines
    assert [line.split()[:2] for line in lines if line[:2] in ("a ", "b ")] == [
        ["a", "served"],
        ["b", "applied*"],
    ]
    assert lines[-2:] == ["promised to keep in touch: a", "overdue: a (last seen 40 s ago, promised 20 s)"]
    assert (
        list(node_lines([ListedNode("b", state="applied", drifted=("/x",))], Page()))[1].split()[1]
        == "applied*"
    )


def test_waiting_for_applied_ends_at_once_when_a_frozen_generation_holds_something_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    why = "generation 3 is frozen; cfgsync generation rebuild takes in what has changed since: the documents"
    held = FleetStatus(
        registered=1, waiting=0, generation=GENERATION, reason=why, held_back=True, converged=False
    )
    with (
        ScriptedServer([Says(200, msgspec.json.encode(held))]) as server,
        ServerClient(ServerUrl.parse(server.url)) as client,
    ):
        assert wait_until_applied(client, 300.0, False) == 1
        said = capsys.readouterr().err
        assert wait_until_applied(client, 300.0, True) == 1
    assert said.splitlines()[0] == f"not converged: {why}"
    assert "waiting longer does not help; cfgsync generation rebuild" in said
    assert '"status":"held_back"' in capsys.readouterr().out
