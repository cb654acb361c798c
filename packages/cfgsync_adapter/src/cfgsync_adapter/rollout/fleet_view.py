"""What decisions about turns read besides the words: the generation, acknowledgements, and which nodes are present."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cfgsync_core import Version

from ..generations.generation import Generation
from ..generations.publisher import Publisher
from ..nodes.acknowledgements import Acknowledged, Acknowledgements
from ..nodes.last_seen import LastSeen
from .grants import PRESENCE
from .timing import TurnTimes
from .words import NOTHING, Fleet, GivenTurn, Spoken, Target


class FleetView:
    """The fleet as one server sees it. `is_held`: a node's question is held here now. Unless the server `is_alone` on its
    store, nobody knows which nodes other servers hear of."""

    def __init__(
        self,
        publisher: Publisher,
        acknowledgements: Acknowledgements,
        seen: LastSeen,
        is_held: Callable[[str], bool],
        is_alone: bool,
        times: TurnTimes,
    ) -> None:
        self._publisher = publisher
        self._acknowledgements = acknowledgements
        self._seen = seen
        self._is_held = is_held
        self._is_alone = is_alone
        self._times = times
        self._target: Target | None = None
        self._target_of: Generation | None = None

    def target(self) -> Target | None:
        """The current generation; None before the first one."""
        current = self._publisher.current
        if current is not self._target_of:
            self._target = (
                None if current is None else Target(current.version, current.at_once, current.reverts)
            )
            self._target_of = current
        return self._target

    def fleet(self, turn_of: Callable[[str], GivenTurn | None]) -> Fleet | None:
        """All of it; `turn_of` gives a node's turn. None before the first generation."""
        target, current = self.target(), self._publisher.current
        if target is None or current is None:
            return None
        groups = self._acknowledgements.groups
        present = {group: sum(map(self.is_present, names)) for group, names in groups.items()}
        return Fleet(
            target,
            groups,
            lambda name: self._spoken(name, turn_of(name)),
            lambda name: self.has(current, name),
            [name for name in self._acknowledgements.failing if self._fails(current, name)],
            present if self._is_alone else None,
            self.is_present,
        )

    def has(self, current: Generation, identifier: str) -> bool:
        """Whether a node has acknowledged what the generation gives it, also when that is nothing."""
        payload = current.nodes.get(identifier)
        return payload is None or self._acknowledgements.of(identifier).has(payload.digest)

    def _fails(self, current: Generation, identifier: str) -> bool:
        payload, failure = current.nodes.get(identifier), self._acknowledgements.of(identifier).failure
        return payload is not None and failure is not None and failure.digest == payload.digest

    def is_present(self, identifier: str) -> bool:
        """Whether this server has heard of the node lately."""
        if self._is_held(identifier):
            return True
        known = self._seen.of(identifier)
        return known is not None and known.at >= self._seen.clock() - PRESENCE

    def _spoken(self, identifier: str, turn: GivenTurn | None) -> Spoken:
        acknowledged = self._acknowledgements.get(identifier)
        if acknowledged is None:
            return NOTHING
        spoken = _spoken(acknowledged, self._acknowledgements.revision_of(identifier) or 0)
        if (
            turn is None
            or spoken.applied is None
            or spoken.applied < turn.generation
            or spoken.revision <= turn.after
        ):
            return spoken
        return spoken if self._times.is_baked(identifier) else msgspec.structs.replace(spoken, applied=None)


def _spoken(acknowledged: Acknowledged, revision: int) -> Spoken:
    failure = acknowledged.failure
    return Spoken(
        revision,
        _version(acknowledged.generation),
        None if failure is None else _version(failure.generation),
        "" if failure is None else failure.digest,
        "" if failure is None else failure.reason or "",
        "" if failure is None else failure.words or "",
    )


def _version(text: str | None) -> Version | None:
    return Version.parse(text) if text else None
