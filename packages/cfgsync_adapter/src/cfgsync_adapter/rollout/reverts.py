"""What a rollout's words mean for the generations: one that all nodes came through is kept, and a change is taken back."""

from __future__ import annotations

import logging

from cfgsync_core.log_events import event

from ..generations.publisher import Publisher
from .policy import Rollout
from .words import Record

log = logging.getLogger("cfgsync")


class Reverts:
    """Keeps the stable generation of one fleet, and publishes those that take a change back."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._missed = 0  # the generation that the log has said is not kept

    async def followed(self, record: Record) -> bool:
        """Do what follows from the record; True when a generation was published. Raises `Unavailable` and its subclasses."""
        current = self._publisher.current
        if current is None or record.generation != current.version:
            return False
        if record.reverting:
            return await self._reverted(record.reverting)
        if record.whole:
            await self._publisher.keep(current)
        return False

    def by_itself(self, record: Record, policy: Rollout) -> int | None:
        """The number of the generation to which a halted fleet goes back by itself, once in a claim: a revert is a claim of
        its own. None when it does not."""
        current, stable = self._publisher.current, self._publisher.stable
        if (
            not record.halted
            or record.reverting
            or policy.on_failure != "revert"
            or self._publisher.claim.reverts
        ):
            return None
        if current is None or stable is None or stable.number == current.number:
            return None
        return stable.number if record.generation == current.version else None

    async def _reverted(self, number: int) -> bool:
        to = self._publisher.numbered(number)
        if to is not None:
            return await self._publisher.revert(to) is not None
        if self._missed != number:
            self._missed = number
            log.warning(
                "generation %d is not kept any more, so the fleet cannot go back to it: choose another one"
                " (cfgsync rollout revert --to N), or go on (cfgsync rollout resume)",
                number,
                extra=event("revert_impossible", generation=number),
            )
        return False
