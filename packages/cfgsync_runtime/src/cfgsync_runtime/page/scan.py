"""One scan of the whole fleet: a letter for the state of each node, read in slices so that the event loop goes on.

A reader gets a scan that began after its request; all requests that arrive during a scan share the next one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, get_args

import msgspec

from cfgsync_core import FleetStatus
from cfgsync_core.wire import State, StatusSource

LETTERS: Final[Mapping[str, str]] = {
    "not_registered": "u",
    "failed": "f",
    "not_ready": "n",
    "no_files": "o",
    "not_applied": "x",
    "applied": "a",
    "served": "s",
    "ready": "r",
}
STATES: Final[tuple[str, ...]] = get_args(State)

SLICE: Final = 250
"""Nodes in one slice, which takes 2 ms."""
NAMED: Final = 1_000
"""Names that a condition has at most."""
PAUSE: Final = 4
"""After a scan of a large fleet, the next one waits this many times as long as it took."""


class FleetScan(msgspec.Struct, frozen=True):
    """The fleet at one moment. `status` has no nodes; `names` are all nodes and all missing ones, sorted, and `letters` has
    the letter of the state of each."""

    status: FleetStatus
    names: Sequence[str]
    letters: str

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of nodes in each state."""
        found = Counter(self.letters)
        return {state: found[LETTERS[state]] for state in STATES}

    @property
    def nodes(self) -> int:
        """The number of nodes, without the missing ones."""
        return len(self.names) - self.letters.count(LETTERS["not_registered"])


def missing_names(status: FleetStatus) -> dict[str, None]:
    """The missing nodes in the order of the conditions, each of which names a thousand at most."""
    return dict.fromkeys(name for condition in status.conditions for name in condition.missing)


def is_cut(status: FleetStatus) -> bool:
    """True when more nodes may be missing than are named."""
    return any(len(condition.missing) >= NAMED for condition in status.conditions)


class FleetScanner:
    """Scans all nodes of `status`."""

    def __init__(self, status: StatusSource) -> None:
        self._status = status
        self._lock = asyncio.Lock()
        self._newest: FleetScan | None = None
        self._began = float("-inf")
        self._next = float("-inf")

    async def scan(self) -> FleetScan:
        """The fleet as it is now."""
        clock = asyncio.get_running_loop().time
        requested = clock()
        async with self._lock:
            if self._newest is not None and self._began >= requested:
                return self._newest
            if (left := self._next - clock()) > 0:
                await asyncio.sleep(left)
            began = clock()
            self._newest = await self._scanned()
            self._began = began
            self._next = clock() + PAUSE * (clock() - began) if len(self._newest.names) > SLICE else began
            return self._newest

    async def _scanned(self) -> FleetScan:
        states: dict[str, str] = {}
        after = ""
        while True:
            status = self._status.fleet(SLICE, after)
            states.update((node.identifier, node.state) for node in status.nodes)
            if len(status.nodes) < SLICE:
                break
            after = status.nodes[-1].identifier
            await asyncio.sleep(0)
        absent = missing_names(status).keys() - states.keys()
        if absent:
            states |= dict.fromkeys(absent, "not_registered")
            states = dict(sorted(states.items()))
        letters = "".join([LETTERS[state] for state in states.values()])
        return FleetScan(msgspec.structs.replace(status, nodes=()), tuple(states), letters)
