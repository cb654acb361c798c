"""Has everybody applied what the current generation gives them? Convergence is by digest, so an unchanged node owes nothing.

What is counted over all nodes is counted again only when a generation, a registration or an acknowledgement came.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..generations.generation import Generation, Source
from ..generations.publisher import Publisher
from ..nodes.acknowledgements import Acknowledgements
from ..nodes.registry import Registry

NAMED = 20
"""How many of those that are behind are named."""


class Converging(msgspec.Struct, frozen=True):
    """How far the fleet is. `applied` counts the registered nodes that have acknowledged what the current generation
    gives them; `behind` those that it gives something, or does not hold yet, and that have not; `names` are the first
    of these. `converged`: the current generation covers all registrations, and nobody is behind."""

    applied: int
    behind: int
    names: Sequence[str]
    converged: bool


class Convergence:
    """The fleet's convergence, from its parts."""

    def __init__(
        self, registry: Registry, generations: Publisher, acknowledgements: Acknowledgements
    ) -> None:
        self._registry = registry
        self._generations = generations
        self._acknowledgements = acknowledgements
        self._counted: Converging | None = None
        self._counted_at: object = None

    def applied(self, identifier: str) -> str | None:
        """The newest generation that is known to give this node what it acknowledged last; None when it never has."""
        said = self._acknowledgements.of(identifier)
        if said.digest is None:
            return None
        for generation in (self._generations.current, self._generations.previous):
            if generation is not None:
                payload = generation.nodes.get(identifier)
                if payload is not None and payload.digest == said.digest:
                    return generation.text
        return said.generation

    def fleet(self, wanted: Source) -> Converging:
        """How far everybody is. `wanted` is what a run that started now would be made from."""
        current = self._generations.current
        stands = None if current is None else (current.text, current.source)
        at = (stands, wanted, self._acknowledgements.changes)
        if self._counted is None or self._counted_at != at:
            self._counted, self._counted_at = self._count(current, wanted), at
        return self._counted

    def _count(self, current: Generation | None, wanted: Source) -> Converging:
        registry, of = self._registry, self._acknowledgements.of
        if current is None:
            return Converging(0, len(registry), registry.identifiers()[:NAMED], converged=False)
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
        converged = bool(registry) and same_epoch and current.source.covers(wanted) and not behind
        return Converging(applied, behind, names, converged)
