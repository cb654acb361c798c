"""How many nodes have applied what the current generation gives them, by digest: an unchanged node need not acknowledge
again. The nodes are counted once after each new generation, registration or acknowledgement.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..generations.generation import Generation, Source
from ..generations.publisher import Publisher
from ..nodes.acknowledgements import Acknowledgements
from ..nodes.registry import Registry

NAMED = 20
"""How many of the nodes that are behind are named."""


class FleetProgress(msgspec.Struct, frozen=True):
    """`applied` counts the registered nodes that have acknowledged what the current generation gives them. `behind`
    counts those that have not, and those that it does not hold yet; `names` are the first of these. `is_covered`: the
    generation covers all registrations."""

    applied: int
    behind: int
    names: Sequence[str]
    is_covered: bool


class Convergence:
    """The progress of one fleet towards its current generation."""

    def __init__(
        self, registry: Registry, generations: Publisher, acknowledgements: Acknowledgements
    ) -> None:
        self._registry = registry
        self._generations = generations
        self._acknowledgements = acknowledgements
        self._counted: FleetProgress | None = None
        self._counted_at: object = None

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

    def progress(self, wanted: Source) -> FleetProgress:
        """The fleet's progress. `wanted` is what a run that started now would be made from."""
        current = self._generations.current
        published = None if current is None else (current.text, current.source)
        at = (published, wanted, self._acknowledgements.changes)
        if self._counted is None or self._counted_at != at:
            self._counted, self._counted_at = self._count(current, wanted), at
        return self._counted

    def _count(self, current: Generation | None, wanted: Source) -> FleetProgress:
        registry, of = self._registry, self._acknowledgements.of
        if current is None:
            return FleetProgress(0, len(registry), registry.identifiers()[:NAMED], is_covered=False)
        covered = current.source.registrations
        same_epoch = covered.epoch == registry.version.epoch
        applied = behind = 0
        names: list[str] = []
        for identifier in registry.identifiers():
            payload = current.nodes.get(identifier)
            has = payload is not None and of(identifier).has(payload.digest)
            applied += has
            if has or payload is None:
                revision = registry.revision_of(identifier)
                if same_epoch and revision is not None and revision <= covered.revision:
                    continue
            behind += 1
            if len(names) < NAMED:
                names.append(identifier)
        return FleetProgress(applied, behind, names, same_epoch and current.source.covers(wanted))
