"""How a change reaches a running fleet: how many nodes at a time, when it stops, and what happens then."""

from __future__ import annotations

import math
import re
from typing import Literal, get_args

import msgspec

Mode = Literal["rolling", "all"]
OnFailure = Literal["halt", "revert"]

_SHARE = re.compile(r"(\d{1,7})|(\d{1,3}(?:\.\d{1,3})?)%")


class Rollout(msgspec.Struct, frozen=True):
    """How a change reaches nodes that take turns (`fetch --watch` with a command, a reload command, a check or a health
    command). Other nodes get each generation at once.

    `mode="all"` gives each generation to everybody at once. `max_parallel` nodes of a group change at the same time, the
    failed ones included: a number, or a share of the group (`"10%"`, at least 1). After `canary` nodes a change waits for
    `cfgsync rollout resume`. A turn lasts `bake` seconds longer than the node takes to be healthy; one without a word for
    `deadline` seconds has failed. More than `max_failures` (a number, or a share of all nodes that take turns) halt the
    rollout; with `on_failure="revert"` the fleet then goes back to the last generation that a whole rollout came through.
    """

    mode: Mode = "rolling"
    max_parallel: int | str = "10%"
    canary: int = 0
    bake: float = 0.0
    deadline: float = 300.0
    max_failures: int | str = 0
    on_failure: OnFailure = "halt"

    def __post_init__(self) -> None:
        for name, value, words in (
            ("mode", self.mode, get_args(Mode)),
            ("on_failure", self.on_failure, get_args(OnFailure)),
        ):
            if value not in words:
                raise ValueError(f"{name}={value!r}: give {' or '.join(map(repr, words))}")
        for name, share in (("max_parallel", self.max_parallel), ("max_failures", self.max_failures)):
            if not is_share(share):
                raise ValueError(f"{name}={share!r}: give a number, or a share as '10%'")
        if share_of(self.max_parallel, 1_000_000) < 1:
            raise ValueError(f"max_parallel={self.max_parallel!r}: give at least 1, or more than 0%")
        if self.canary < 0:
            raise ValueError(f"canary={self.canary!r}: give a number of nodes, 0 for none")
        if not 0 <= self.bake < math.inf:
            raise ValueError(f"bake={self.bake!r}: give a number of seconds")
        if not 0 < self.deadline < math.inf:
            raise ValueError(f"deadline={self.deadline!r}: give a number of seconds above 0")

    def places(self, nodes: int) -> int:
        """How many nodes of a group of so many may be out at the same time."""
        return max(1, share_of(self.max_parallel, nodes))

    def failures(self, nodes: int) -> int:
        """How many failed nodes of so many do not halt the rollout yet."""
        return share_of(self.max_failures, nodes)


def share_of(share: int | str, nodes: int) -> int:
    """`3` of any number of nodes is 3, `"10%"` of 25 is 2."""
    if isinstance(share, str) and share.endswith("%"):
        return int(nodes * float(share[:-1]) / 100)
    return int(share)


def is_share(share: object) -> bool:
    """Whether this is a number of nodes, or a share of them up to 100 %."""
    if isinstance(share, bool):
        return False
    found = _SHARE.fullmatch(str(share)) if isinstance(share, int | str) else None
    return found is not None and (found[2] is None or float(found[2]) <= 100)
