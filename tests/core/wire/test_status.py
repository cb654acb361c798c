"""The states of nodes and fleets: the first one that holds, from one function."""

from __future__ import annotations

from importlib.resources import files
from itertools import product
from typing import get_args

import msgspec
import pytest

from cfgsync_core import FleetStatus, MaterializationFailed, Missing, NodeStatus, NotReady, Ready, Unavailable
from cfgsync_core.server.static_source import StaticConfigSource
from cfgsync_core.wire.payload import NodeArtifactsPayload
from cfgsync_core.wire.status import (
    FLEET_COLOURS,
    NODE_STATES,
    FleetState,
    State,
    fleet_state,
    generation_number,
    node_state,
)

READY = Ready(NodeArtifactsPayload(b"", b"", "sha256-0"))


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (NotReady("unknown", registered=False), "not_registered"),
        (MaterializationFailed("no address left"), "failed"),
        (Unavailable("the store is away"), "failed"),
        (NotReady("waiting for 3"), "not_ready"),
        (None, "not_ready"),
        (Missing(), "no_files"),
    ],
)
def test_without_files_the_answer_alone_is_the_state(answer: object, state: State) -> None:
    for flags in product((False, True), repeat=3):
        failed, applied, served = flags
        assert node_state(answer, has_failed=failed, has_applied=applied, was_served=served) == state  # type: ignore[arg-type]


def test_with_files_the_first_state_that_holds_counts() -> None:
    states = [
        node_state(READY, has_failed=failed, has_applied=applied, was_served=served)
        for failed, applied, served in ((1, 1, 1), (0, 1, 1), (0, 0, 1), (0, 0, 0))
    ]
    assert states == ["not_applied", "applied", "served", "ready"]


def test_the_fleet_is_in_the_first_state_that_holds() -> None:
    states = [
        fleet_state(registered, is_covered=covered, has_failed=failed, behind=behind)
        for registered, covered, failed, behind in ((0, 0, 1, 1), (1, 0, 1, 1), (1, 0, 0, 1), (1, 1, 1, 1), (1, 1, 1, 0))
    ]  # fmt: skip
    assert states == list(get_args(FleetState))


def test_a_status_without_states_and_one_with_unknown_states_can_be_read() -> None:
    old = msgspec.json.decode(b'{"registered":1,"waiting":0,"nodes":[{"identifier":"a"}]}', type=FleetStatus)
    assert (old.state, old.nodes[0].state, old.converged) == ("", "", msgspec.UNSET)
    new = msgspec.json.decode(b'{"identifier":"a","state":"resting"}', type=NodeStatus)
    assert new.state == "resting"


async def test_a_bundle_has_files_ready_or_none() -> None:
    source = StaticConfigSource({"a": []})
    assert (source.node("a").state, source.node("b").state, source.fleet(1, "").state) == (
        "ready",
        "no_files",
        "converging",
    )
    assert StaticConfigSource({}).fleet(1, "").state == "empty"


def test_one_table_has_every_state_each_with_a_letter_of_its_own_and_a_meaning() -> None:
    assert set(NODE_STATES) == set(get_args(State))
    assert len({facts.letter for facts in NODE_STATES.values()}) == len(NODE_STATES)
    assert all(facts.meaning for facts in NODE_STATES.values())
    assert set(FLEET_COLOURS) == set(get_args(FleetState))


def test_the_pages_style_has_a_colour_for_every_state() -> None:
    style = files("cfgsync_runtime.page").joinpath("page.css").read_text(encoding="utf-8")
    for state, facts in NODE_STATES.items():
        assert f".state.{state} .dot" in style
        assert f".stripe .{state}" in style
        assert f"#cells a.{facts.letter}" in style or state == "ready"  # the cell's own colour


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        (None, None),
        ("", None),
        ("01890a5d-ac96-774b-bcce-b302099a8057.12", "12"),
        ("sha256-" + "0123456789abcdef" * 4, "01234567"),
    ],
)
def test_a_person_reads_a_number_or_the_first_digits_of_a_digest(
    version: str | None, shown: str | None
) -> None:
    assert generation_number(version) == shown
