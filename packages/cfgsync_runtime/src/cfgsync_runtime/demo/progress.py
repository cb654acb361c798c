"""The phase of each node of the demo: from its status at the server, and from the start and end of its program."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from cfgsync_core import FleetStatus
from cfgsync_core.text import counted

Phase: TypeAlias = Literal["not started", "to ask again", "registering", "waiting", "receiving", "in place"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)


class ProgressCounts(msgspec.Struct, frozen=True):
    """The fleet at one moment: the nodes of each phase, and why it is not ready ("" when it is)."""

    phases: dict[Phase, list[str]]
    generation: str
    why: str


class Progress:
    """Which programs have started and which have ended, since the last `again()`. `clock` gives seconds."""

    def __init__(self, names: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._names = tuple(names)
        self._clock = clock
        self._begun: set[str] = set()
        self._ended: dict[str, float] = {}

    def begins(self, name: str) -> None:
        self._begun.add(name)

    def ends(self, name: str) -> None:
        """Its files are in place."""
        self._ended[name] = self._clock()

    def again(self) -> None:
        """Every node is to fetch once more."""
        self._begun.clear()
        self._ended.clear()

    def after(self, moment: float) -> tuple[float, float]:
        """Seconds from `moment` until the first and the last node had its files."""
        return min(self._ended.values()) - moment, max(self._ended.values()) - moment

    def counts(self, fleet: FleetStatus) -> ProgressCounts:
        """The nodes of each phase, given the server's status now."""
        registered = {node.identifier: node for node in fleet.nodes if node.registered}
        phases: dict[Phase, list[str]] = {phase: [] for phase in PHASES}
        for name in self._names:
            node = registered.get(name)
            if name in self._ended:
                phase: Phase = "in place"
            elif name not in self._begun:
                phase = "to ask again" if node else "not started"
            elif node is None:
                phase = "registering"
            else:
                is_served = fleet.generation is not None and node.served == fleet.generation
                phase = "receiving" if is_served else "waiting"
            phases[phase].append(name)
        return ProgressCounts(phases, number(fleet), "" if fleet.generation else missing(fleet))


def missing(fleet: FleetStatus) -> str:
    """How many nodes are registered and which are missing, from the first condition; without one, the reason."""
    for condition in fleet.conditions:
        names = ", ".join(condition.missing[:3])
        more = len(condition.missing) - 3
        also = f" and {more} more" if more > 0 else ""
        return f"not ready: {condition.have} of {counted(condition.need, 'node')}, missing {names}{also}"
    return f"not ready: {fleet.reason}"


def number(fleet: FleetStatus) -> str:
    return (fleet.generation or "none").rpartition(".")[2]
