"""When each node was last heard of, and what it was served then: for `last_seen`, and for the next node to expire."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import takewhile

import msgspec

from cfgsync_core.text import rfc3339


class SeenNode(msgspec.Struct, gc=False):
    """One Struct in one table, since each table costs a question of a large fleet three lines of cold memory. `at` is
    the clock's seconds, `served` the generation that it was answered from last."""

    at: float
    served: str | None = None


class LastSeen:
    """When each node was heard of. `clock` is monotonic seconds and measures; `wall` (seconds since 1970) only spells.

    With `ordered`, the node that was silent for the longest time is always the first, so that looking for silent nodes
    costs what is found and not the fleet.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._offset = wall() - clock()
        self._nodes: dict[str, SeenNode] = {}
        self.ordered = False

    def touch(self, identifier: str) -> SeenNode:
        """This node was heard of now."""
        nodes = self._nodes
        known = nodes.pop(identifier, None) if self.ordered else nodes.get(identifier)
        if known is None:
            known = nodes[identifier] = SeenNode(self._clock())
            return known
        known.at = self._clock()
        if self.ordered:
            nodes[identifier] = known
        return known

    def forget(self, identifier: str) -> float | None:
        """Drop a name; when it was last heard of."""
        known = self._nodes.pop(identifier, None)
        return None if known is None else known.at

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._nodes

    def of(self, identifier: str) -> SeenNode | None:
        """What is known of a node, None when it was never heard of."""
        return self._nodes.get(identifier)

    def oldest(self) -> float | None:
        """With `ordered`: when the node that is silent for the longest time was heard of."""
        return next((known.at for known in self._nodes.values()), None)

    def silent_since(self, at: float) -> list[str]:
        """With `ordered`: the nodes that were last heard of at `at` or before, the oldest first."""
        return [name for name, _ in takewhile(lambda node: node[1].at <= at, self._nodes.items())]

    def now(self) -> float:
        """The clock's seconds."""
        return self._clock()

    def spelled(self, at: float) -> str:
        """The clock's seconds as RFC 3339, whole seconds."""
        offset = self._wall() - self._clock()
        if abs(offset - self._offset) > 1.0:  # the wall clock was set
            self._offset = offset
        return rfc3339(int(at + self._offset))

    def ago(self, at: float) -> str:
        """`40 s ago`."""
        seconds = max(0, int(self._clock() - at))
        if seconds < 120:
            return f"{seconds} s ago"
        if seconds < 2 * 3600:
            return f"{seconds // 60} min ago"
        return f"{seconds // 3600} h ago"
