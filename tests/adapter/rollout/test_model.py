"""The model of a rollout holds, and every sabotage of it is caught."""

from __future__ import annotations

import os
from collections import deque

import pytest

from cfgsync_adapter.rollout.policy import Rollout
from tests.seeds import drawn_seed

from .model import Broken, Content, World, key, left_alone
from .sabotages import NAMES, sabotaged
from .walks import walk, walk_without_turns

LONG = os.environ.get("CFGSYNC_CHAOS") == "long"
WALKS = 20_000 if LONG else 300
STATES = 200_000 if LONG else 1_000
CAUGHT_WITHIN = 6_000

FOUND_BY = {
    "resume frees every turn": 55,
    "files that are taken back are given once more": 122,
    "files from a view that lags": 79,
    "failed nodes free their place": 3869,
    "late nodes free their place": 914,
    "a halt forgets a failed node that left": 2126,
    "a turn is for whatever comes": 2078,
    "the second answer without a commit": 417,
    "marked and halted in two commits": 1072,
}
"""A seed that found it once is tried first."""


def test_no_walk_through_the_model_breaks_an_invariant() -> None:
    first = drawn_seed()
    print(f"seeds {first} to {first + WALKS - 1}")
    for seed in range(first, first + WALKS):
        walk(seed)


def test_ro_6_holds_where_nobody_takes_turns() -> None:
    first = drawn_seed()
    print(f"seeds {first} to {first + WALKS - 1}")
    for seed in range(first, first + WALKS):
        walk_without_turns(seed)


@pytest.mark.parametrize("servers", [1, 2])
def test_every_path_of_two_nodes_through_a_change_that_fails(servers: int) -> None:
    """Breadth first, as far as the number of states allows."""
    world = World({"a": "default", "b": "default"}, servers, Rollout(max_parallel=1))
    world.do_publish(Content("d2", "*"))
    seen, front = {key(world)}, deque([world])
    while front and len(seen) < STATES:
        world = front.popleft()
        for step in world.steps():
            if step[0] in ("lose_disk", "leave"):
                continue
            after = world.copy()
            after.take(step)
            if (now := key(after)) not in seen:
                seen.add(now)
                front.append(after)
    print(f"{len(seen)} states")
    for last in list(front)[:50]:
        left_alone(last)
        assert last.words.record.phase == "halted", "everybody is up, or late"


@pytest.mark.parametrize("name", NAMES)
def test_a_sabotage_is_caught(name: str) -> None:
    rules = sabotaged(name)
    for seed in (FOUND_BY.get(name, 0), *range(CAUGHT_WITHIN)):
        try:
            walk(seed, rules)
        except Broken as broken:
            walk(seed)  # it is the sabotage that breaks it
            print(seed, str(broken).splitlines()[-1])
            return
    pytest.fail(f"not caught in {CAUGHT_WITHIN} walks")
