"""How long turns have been out, by this server's clock alone: after a restart each has its whole time again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .policy import Rollout
from .words import GivenTurn


class TurnTimes:
    """Since when this server knows each turn, and that its node is healthy. `clock` is in seconds."""

    def __init__(self, policy: Rollout, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._given: dict[str, tuple[object, float]] = {}
        self._healthy: dict[str, float] = {}
        self.deadline = f"{policy.deadline:g} s"
        """The deadline as text."""

    def follow(self, turns: Mapping[str, GivenTurn]) -> None:
        """These turns are out now."""
        now, before = self._clock(), self._given
        self._given = {}
        for name, turn in turns.items():
            which = (turn.generation, turn.group, turn.digest, turn.after)
            known = before.get(name)
            is_known = known is not None and known[0] == which
            self._given[name] = known if known is not None and is_known else (which, now)
            if not is_known:
                self._healthy.pop(name, None)
        self._healthy = {name: at for name, at in self._healthy.items() if name in turns}

    def age(self, identifier: str) -> float:
        """Seconds since this server knows the node's turn; 0 for an unknown one."""
        known = self._given.get(identifier)
        return 0.0 if known is None else self._clock() - known[1]

    def is_baked(self, identifier: str) -> bool:
        """The node has just been found healthy: whether it has been for long enough."""
        if not self._policy.bake:
            return True
        now = self._clock()
        return now - self._healthy.setdefault(identifier, now) >= self._policy.bake

    def overdue(self, turns: Mapping[str, GivenTurn]) -> list[str]:
        """The nodes whose turns have passed the deadline without a word."""
        return [
            name
            for name, turn in turns.items()
            if not turn.ended and name not in self._healthy and self.age(name) >= self._policy.deadline
        ]

    def due(self, turns: Mapping[str, GivenTurn]) -> float | None:
        """Seconds until a turn is overdue or baked; None for never."""
        now = self._clock()
        ends = [at + self._policy.bake for at in self._healthy.values()]
        for name, turn in turns.items():
            if not turn.ended and name not in self._healthy:
                ends.append(now - self.age(name) + self._policy.deadline)
        return max(0.01, min(ends) - now) if ends else None
