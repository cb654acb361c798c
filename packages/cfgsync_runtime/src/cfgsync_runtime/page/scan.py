"""One scan of the whole fleet: a letter for the state of each node, read in slices so that the event loop goes on.

A reader gets a scan that began after its request; all requests that arrive during a scan share the next one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from cfgsync_core import FleetStatus
from cfgsync_core.wire import MAX_NAMES, NODE_STATES, State, StatusSource

SLICE: Final = 250
"""Nodes in one slice, which takes 2 ms."""
PAUSE: Final = 4
"""After a scan of a large fleet, the next one waits this many times as long as it took."""

SHARED_REASON: Final = {
    "failed": "the newest run failed, see above",
    "not_ready": "the fleet is not ready, see above",
}
"""By state of a node: its reason is the fleet's, which the page shows once."""

_LETTERS: Final[Mapping[str, str]] = {state: facts.letter for state, facts in NODE_STATES.items()}
_RANKS: Final[Mapping[str, int]] = {facts.letter: rank for rank, facts in enumerate(NODE_STATES.values())}
_ABSENT: Final = _LETTERS["not_registered"]


class Place(msgspec.Struct, frozen=True, order=True):
    """The place of a node in the list: the rank of its state in `NODE_STATES`, then its name. As text `served:node-1`."""

    rank: int
    name: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """The place in a query; the beginning for any other text."""
        state, _, name = text.partition(":")
        return cls(_RANKS[_LETTERS[state]], name) if state in _LETTERS else cls(-1, "")

    def __str__(self) -> str:
        return f"{tuple(NODE_STATES)[self.rank]}:{self.name}"


class FleetScan(msgspec.Struct, frozen=True):
    """The fleet at one moment. `status` has no nodes; `names` are all nodes and all missing ones, sorted. `letters` has
    the letter of the state of each, and `texts` what a filter finds it by: name, address, state and reason, in lower case."""

    status: FleetStatus
    names: Sequence[str]
    letters: str
    texts: Sequence[str]

    @property
    def counts(self) -> Mapping[State, int]:
        """The number of nodes in each state."""
        found = Counter(self.letters)
        return {state: found[facts.letter] for state, facts in NODE_STATES.items()}

    @property
    def nodes(self) -> int:
        """The number of nodes, without the missing ones."""
        return len(self.names) - self.letters.count(_ABSENT)

    def places(self, state: str, find: str) -> Sequence[Place]:
        """The nodes in this state, `""` for all, whose text has `find` in it; failures first. Missing nodes are among them
        only when something is asked for."""
        wanted = (
            _LETTERS[state] if state else "".join(_RANKS) if find else "".join(_RANKS).replace(_ABSENT, "")
        )
        every = zip(self.names, self.letters, self.texts, strict=True)
        return sorted(
            Place(_RANKS[letter], name) for name, letter, text in every if letter in wanted and find in text
        )


def missing_names(status: FleetStatus) -> dict[str, None]:
    """The missing nodes in the order of the conditions, each of which names a thousand at most."""
    return dict.fromkeys(name for condition in status.conditions for name in condition.missing)


def is_cut(status: FleetStatus) -> bool:
    """True when more nodes may be missing than are named."""
    return any(len(condition.missing) >= MAX_NAMES for condition in status.conditions)


class FleetScanner:
    """Scans all nodes of `status`; `address` gives the address of a node, None for one that has not registered."""

    def __init__(self, status: StatusSource, address: Callable[[str], str | None]) -> None:
        self._status = status
        self._address = address
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
        found: dict[str, tuple[str, str]] = {}
        after = ""
        while nodes := self._status.nodes(SLICE, after):
            for node in nodes:
                reason = "" if node.state in SHARED_REASON else node.reason
                words = (node.identifier, self._address(node.identifier) or "", node.state, reason)
                found[node.identifier] = _LETTERS[node.state], "\n".join(words).lower()
            if len(nodes) < SLICE:
                break
            after = nodes[-1].identifier
            await asyncio.sleep(0)
        status = self._status.fleet(0, "")
        absent = missing_names(status).keys() - found.keys()
        if absent:
            found |= {name: (_ABSENT, f"{name}\nnot_registered".lower()) for name in absent}
            found = dict(sorted(found.items()))
        letters = "".join([letter for letter, _ in found.values()])
        return FleetScan(status, tuple(found), letters, [text for _, text in found.values()])
