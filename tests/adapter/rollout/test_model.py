"""The model of a rollout holds, and every sabotage of it is caught."""

from __future__ import annotations

import os
import random

import pytest

from .model import Broken, Rules
from .sabotages import AROUND_THEM, IN_THE_FUNCTIONS
from .walks import walk

LONG = os.environ.get("CFGSYNC_CHAOS") == "long"
WALKS = 20_000 if LONG else 500
CAUGHT_WITHIN = 6_000

SABOTAGES = {one.name: one.rules() for one in IN_THE_FUNCTIONS} | AROUND_THEM


def test_no_walk_through_the_model_breaks_an_invariant() -> None:
    first = random.randrange(1 << 32)
    print(f"seeds {first} to {first + WALKS - 1}")
    for seed in range(first, first + WALKS):
        walk(seed)


@pytest.mark.parametrize("rules", SABOTAGES.values(), ids=SABOTAGES.keys())
def test_a_sabotage_is_caught(rules: Rules) -> None:
    for seed in range(CAUGHT_WITHIN):
        try:
            walk(seed, rules)
        except Broken as broken:
            walk(seed)  # it is the sabotage that breaks it
            print(seed, str(broken).splitlines()[-1])
            return
    pytest.fail(f"not caught in {CAUGHT_WITHIN} walks")
