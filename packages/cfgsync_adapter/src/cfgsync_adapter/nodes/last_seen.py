"""When each node sent its last request, and which generation it was served then."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import takewhile

import msgspec

from cfgsync_core.text import rfc3339


class SeenNode(msgspec.Struct, gc=False):
    """`at` is the clock's seconds, `served` the last generation that the node was sent. Both are in one table, since each
    table costs a request of a large fleet three cache lines of cold memory."""

    at: float
    served: str | None = None


class LastSeen:
    """When each node sent its last request. `clock` (monotonic seconds) measures; `wall` (seconds since 1970) is only
    for display.

    Of the nodes that are `expected` again, the one that is silent for the longest time is always the first, so that
    finding the silent ones does not read the whole table.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self.clock = clock
        self._wall = wall
        self._offset = wall() - clock()
        self._nodes: dict[str, SeenNode] = {}
        self._expected: dict[str, SeenNode] = {}  # the longest silent first

    def touch(self, identifier: str) -> SeenNode:
        """This node has just sent a request."""
        known = self._nodes.get(identifier)
        if known is None:
            known = self._nodes[identifier] = SeenNode(0.0)
        known.at = self.clock()
        if self._expected.pop(identifier, None) is not None:
            self._expected[identifier] = known
        return known

    def expect(self, identifier: str) -> None:
        """This node has just said that it will be heard of again, or is expected from now on after a restart."""
        known = self._nodes.get(identifier) or SeenNode(0.0)
        known.at = self.clock()
        self._expected.pop(identifier, None)
        self._expected[identifier] = known

    def is_expected(self, identifier: str) -> bool:
        """Whether this node will be heard of again."""
        return identifier in self._expected

    def release(self, identifier: str) -> None:
        """This node is not expected any more."""
        self._expected.pop(identifier, None)

    def forget(self, identifier: str) -> float | None:
        """Drop a node; returns when it sent its last request."""
        self._expected.pop(identifier, None)
        known = self._nodes.pop(identifier, None)
        return None if known is None else known.at

    def of(self, identifier: str) -> SeenNode | None:
        """What is known of a node, None when it never sent a request."""
        return self._nodes.get(identifier)

    def oldest(self) -> float:
        """Since when the expected node that is silent for the longest time is silent; now without such nodes."""
        return next((known.at for known in self._expected.values()), self.clock())

    def silent_since(self, at: float) -> list[str]:
        """The expected nodes that sent their last request at `at` or before, the oldest first."""
        return [name for name, _ in takewhile(lambda node: node[1].at <= at, self._expected.items())]

    def as_rfc3339(self, at: float) -> str:
        """A time of the clock as RFC 3339, in whole seconds."""
        offset = self._wall() - self.clock()
        if abs(offset - self._offset) > 1.0:  # the wall clock was set
            self._offset = offset
        return rfc3339(int(at + self._offset))

    def ago(self, at: float) -> str:
        """`40 s ago`."""
        seconds = max(0, int(self.clock() - at))
        if seconds < 120:
            return f"{seconds} s ago"
        if seconds < 2 * 3600:
            return f"{seconds // 60} min ago"
        return f"{seconds // 3600} h ago"
