"""How many nodes are in each state, and how many have applied what the current generation gives them. By digest: an
unchanged node need not acknowledge again. The nodes are counted once after each change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

import msgspec

from cfgsync_core import Missing, NodeArtifactsPayload, Ready
from cfgsync_core.wire import NODE_STATES, State, node_state

from ..generations.generation import Source
from ..generations.publisher import Publisher
from ..nodes.acknowledgements import Acknowledgements
from ..nodes.last_seen import LastSeen
from ..nodes.registry import Registry
from ..runs.held_back import HeldBack

NAMED = 20
"""How many of the nodes that are behind are named."""


class FleetProgress(msgspec.Struct, frozen=True):
    """`counts` are the registered nodes in each state. `behind` counts those that have not acknowledged what the current
    generation gives them, and those that it does not hold yet; `names` are the first of these. `drifted` counts
    those with files that were changed on their disks; `drifted_names` are the first of these. `is_covered`: the generation
    covers all registrations."""

    counts: Mapping[str, int]
    behind: int
    names: Sequence[str]
    drifted: int
    drifted_names: Sequence[str]
    is_covered: bool


class Convergence:
    """The progress of one fleet towards its current generation."""

    def __init__(
        self,
        registry: Registry,
        generations: Publisher,
        acknowledgements: Acknowledgements,
        seen: LastSeen,
        held_back: HeldBack,
    ) -> None:
        self._registry = registry
        self._generations = generations
        self._acknowledgements = acknowledgements
        self._seen = seen
        self._held_back = held_back
        self._counted: FleetProgress | None = None
        self._counted_at: object = None
        self.served = 0
        """Counts the changes of what a node was served last."""

    def applied(self, identifier: str) -> str | None:
        """The newest generation that is known to give this node what it acknowledged last; None when it never has."""
        acknowledged = self._acknowledgements.of(identifier)
        if acknowledged.digest is None:
            return None
        for generation in (self._generations.current, self._generations.previous):
            if generation is not None:
                payload = generation.nodes.get(identifier)
                if payload is not None and payload.digest == acknowledged.digest:
                    return generation.text
        return acknowledged.generation

    def progress(self, wanted: Source, late: State) -> FleetProgress:
        """The fleet's progress. `wanted` is what a run that started now would be made from, `late` the state of a node
        whose registration the current generation does not cover."""
        current = self._generations.current
        published = None if current is None else (current.text, current.source)
        made_from = self._held_back.made_from
        at = (published, wanted, late, self._acknowledgements.changes, self.served, made_from)
        if self._counted is None or self._counted_at != at:
            self._counted, self._counted_at = self._count(wanted, late), at
        return self._counted

    def _count(self, wanted: Source, late: State) -> FleetProgress:
        made_from = self._held_back.made_from
        registry, of, seen = self._registry, self._acknowledgements.of, self._seen.of
        current = self._generations.current
        text = "" if current is None else current.text
        covered = -1 if current is None else current.source.registrations.revision
        if current is not None and current.source.registrations.epoch != registry.version.epoch:
            covered = -1
        states: list[State] = []
        behind = 0
        names: list[str] = []
        drifted = [name for name in registry.identifiers() if of(name).drifted]
        for identifier in registry.identifiers():
            revision = registry.revision_of(identifier)
            is_behind = True
            is_late = revision is None or (revision > covered and not self._held_back.has(identifier))
            if current is None or is_late:
                state = late
            elif (payload := current.nodes.get(identifier)) is None:
                state, is_behind = _NO_FILES, False
            else:
                last = of(identifier)
                if is_behind := not last.has(payload.digest):
                    known = seen(identifier)
                    was_served = known is not None and known.served == text
                    state = _BEHIND[last.failure is not None, was_served]
                else:
                    state = _APPLIED
            states.append(state)
            behind += is_behind
            if is_behind and len(names) < NAMED:
                names.append(identifier)
        counts = Counter(states)
        is_covered = covered >= 0 and current is not None and current.source.covers(wanted)
        if made_from is not None:
            is_covered = not self._held_back.in_fleet(wanted)
        return FleetProgress(
            {state: counts[state] for state in NODE_STATES},
            behind,
            names,
            len(drifted),
            drifted[:NAMED],
            is_covered,
        )


_FILES: Final = Ready(NodeArtifactsPayload(b"", b"", ""))
_NO_FILES: Final = node_state(Missing())
_APPLIED: Final = node_state(_FILES, has_applied=True)
_BEHIND: Final = {
    (failed, served): node_state(_FILES, has_failed=failed, was_served=served)
    for failed, served in product((False, True), repeat=2)
}
"""Asked once for each combination, and not once for each node."""
