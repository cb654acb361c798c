"""The whole fleet in one look: a letter for each node, taken in slices between which the server answers others.

Whoever asks gets a look that began after the question; all who ask while one is under way share the next.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from cfgsync_core import FleetStatus, NodeStatus, StatusSource

Kind: TypeAlias = Literal["missing", "registered", "waiting", "served", "applied", "failed"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""Where a node stands, to the eye; the first letters differ."""

SLICE: Final = 250
"""Nodes that are looked at in one go: 2 ms."""
NAMED: Final = 1_000
"""Names that a condition has at most."""
REST: Final = 4
"""A look that took a second is not repeated for so many."""


class Fleet(msgspec.Struct, frozen=True):
    """One look. `head` is the fleet's words without its nodes; `names` are all nodes and all who are missing, in order,
    and `states` has the first letter of the kind of each."""

    head: FleetStatus
    names: Sequence[str]
    states: str

    @property
    def counts(self) -> Mapping[Kind, int]:
        """How many there are of each kind."""
        found = Counter(self.states)
        return {kind: found[kind[0]] for kind in KINDS}

    @property
    def nodes(self) -> int:
        """How many there are that are not missing."""
        return len(self.names) - self.counts["missing"]


def kind_of(node: NodeStatus) -> Kind:
    """Where this node stands, to the eye."""
    match node.state:
        case "applied" | "served" as same:
            return same
        case "failed" | "not_applied" | "no_files":
            return "failed"
        case "not_ready" | "ready":
            return "waiting" if node.waiting else "registered"
    return "missing"


def named_missing(head: FleetStatus) -> dict[str, None]:
    """Everybody who is waited for, in the order of the conditions. `head.missing` ends at a thousand names, and so does
    each condition."""
    return dict.fromkeys(name for condition in head.conditions for name in condition.missing)


def is_cut(head: FleetStatus) -> bool:
    """True when more nodes may be missing than are named."""
    return any(len(condition.missing) >= NAMED for condition in head.conditions)


class Survey:
    """Looks at all nodes of `status`."""

    def __init__(self, status: StatusSource) -> None:
        self._status = status
        self._one = asyncio.Lock()
        self._newest: Fleet | None = None
        self._began = float("-inf")
        self._next = float("-inf")

    async def look(self) -> Fleet:
        """The fleet as it is now."""
        clock = asyncio.get_running_loop().time
        asked = clock()
        async with self._one:
            if self._newest is not None and self._began >= asked:
                return self._newest
            if (rest := self._next - clock()) > 0:
                await asyncio.sleep(rest)
            began = clock()
            self._newest = await self._taken()
            self._began = began
            self._next = clock() + REST * (clock() - began) if len(self._newest.names) > SLICE else began
            return self._newest

    async def _taken(self) -> Fleet:
        names: list[str] = []
        letters: list[str] = []
        after = ""
        while True:
            head = self._status.fleet(SLICE, after)
            for node in head.nodes:
                names.append(node.identifier)
                letters.append(kind_of(node)[0])
            if len(head.nodes) < SLICE:
                break
            after = names[-1]
            await asyncio.sleep(0)
        here = set(names)
        absent = named_missing(head).keys() - here
        if absent:
            both = sorted([*zip(names, letters, strict=True), *((name, "m") for name in absent)])
            names, letters = [name for name, _ in both], [letter for _, letter in both]
        return Fleet(msgspec.structs.replace(head, nodes=()), names, "".join(letters))
