"""How much of everything: whole, or a look in under a minute."""

from __future__ import annotations

import msgspec


class Scale(msgspec.Struct, frozen=True):
    turns: int
    requests: int  # of one turn
    fleet: int  # the large one
    growing_to: int  # registrations of the growing fleet
    boots: tuple[int, ...]
    held: int
    fetches: int
    watchers: int
    idle: int
    idle_interval: float  # seconds


WHOLE = Scale(
    turns=5,
    requests=6_000,
    fleet=10_000,
    growing_to=60_000,
    boots=(1_000, 10_000),
    held=10_000,
    fetches=8,
    watchers=1_000,
    idle=5_000,
    idle_interval=15.0,
)
QUICK = Scale(
    turns=2,
    requests=2_500,
    fleet=2_000,
    growing_to=6_000,
    boots=(500,),
    held=1_000,
    fetches=3,
    watchers=300,
    idle=1_000,
    idle_interval=4.0,
)
