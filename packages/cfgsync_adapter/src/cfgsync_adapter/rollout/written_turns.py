"""Which nodes may be given files under their turns. Where other servers commit too, one may not have read yet that they have
ended a turn; so each 200 under a turn comes after a commit of this server that wrote the turn.
"""

from __future__ import annotations

from collections.abc import Iterable


class WrittenTurns:
    """`take(node)` is True once after each `add(node)`, and always unless it `is_needed`. `wanted` are the nodes whose turns
    must be written again."""

    def __init__(self, *, is_needed: bool) -> None:
        self._is_needed = is_needed
        self._written: set[str] = set()
        self.wanted: set[str] = set()

    def take(self, identifier: str) -> bool:
        """Whether the node may be given files now."""
        if not self._is_needed:
            return True
        if identifier in self._written:
            self._written.discard(identifier)
            return True
        self.wanted.add(identifier)
        return False

    def add(self, identifiers: Iterable[str]) -> list[str]:
        """The turns of these nodes have just been written. Returns the nodes that may be given files now and might wait for
        it."""
        if not self._is_needed:
            return []
        now = set(identifiers)
        self._written |= now
        self.wanted -= now
        return list(self._written)
