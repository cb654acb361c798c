"""What a start finds of an earlier life of this watcher, so that it asks for no files out of turn and resumes a trial."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from cfgsync_artifacts import CfgsyncError
from cfgsync_core import IntegrityError, Version
from cfgsync_core.node import NodeTurn, NotSigned, RefusedFiles

from ..degraded_start import usable
from ..memory.state import CachedPayload, NodeState
from ..outputs import Planner, in_place, write
from .trial_memory import TrialMemory


class TurnAtStart(msgspec.Struct, frozen=True):
    """The node takes turns in `group`. `good` is its last good payload, None for first files; `placed` what is whole in place,
    None for nothing that could be named. `on_trial`: that is on trial. `refused` are the files that it went back from."""

    group: str
    good: CachedPayload | None = None
    placed: CachedPayload | None = None
    on_trial: bool = False
    refused: RefusedFiles | None = None

    @property
    def turn(self) -> NodeTurn:
        """The turn of the node, as it is now."""
        trial = self.placed.payload.digest if self.on_trial and self.placed is not None else ""
        return NodeTurn(self.group, trial, self.refused)

    @property
    def named(self) -> str | None:
        """The digest that the first request names; None for none."""
        return None if self.placed is None else self.turn.named(self.placed.payload.digest)


def turn_at_start(
    state: NodeState, outputs: Planner, group: str, *, is_unchanged: bool, told: str | None
) -> TurnAtStart:
    """Look at the disk. Files that a killed trial left half written are replaced by the last good ones. `is_unchanged`: the
    registration is that of the last start. `told` is the digest that a program which is not ours was notified of. Raises
    `DiskError`."""
    memory = TrialMemory(state)
    if not is_unchanged:
        memory.end()  # those files were made for another registration
        return TurnAtStart(group)
    good = None
    with suppress(NotSigned):
        good, _ = usable(state, None)
    trial, refused = memory.trial(), memory.refused()
    if trial is not None and is_in_place(trial, outputs) and _is_signed(trial, state):
        return TurnAtStart(group, good, trial, True, refused)
    placed = good if good is not None and is_in_place(good, outputs) else None
    if good is not None and refused is not None and good.payload.digest == refused.digest:
        if placed is not None:  # a fetch by hand has installed them all the same
            memory.end()
            refused = None
        good = placed
    if placed is None and good is not None and (trial is not None or refused is not None):
        with suppress(IntegrityError):
            write(outputs.plan(good.payload.raw_files()))
            placed = good
    if trial is not None:
        memory.abandon()
    if placed is not None and told not in (None, placed.payload.digest) and refused is None:
        placed = None  # the program does not know these files: it is to be told when the node has its turn
    return TurnAtStart(group, good, placed, False, refused)


def turn_after(start: TurnAtStart, state: NodeState, digest: str, on_trial: bool) -> TurnAtStart:
    """The same when the start has brought the files with this digest into place. Raises `DiskError`."""
    memory = TrialMemory(state)
    trial = memory.trial() if on_trial else None
    if trial is not None and trial.payload.digest == digest:
        return TurnAtStart(start.group, start.good, trial, True, memory.refused())
    good = state.cached()
    if good is None or good.payload.digest != digest:
        good = None
    return TurnAtStart(start.group, good, good, False, memory.refused())


def generation_of(cached: CachedPayload) -> str | None:
    """The generation of a payload; None from a static source."""
    return str(Version(cached.epoch, cached.number)) if cached.epoch else None


def is_in_place(cached: CachedPayload, outputs: Planner) -> bool:
    """Whether these files are in place, whole."""
    try:
        return in_place(outputs.plan(cached.payload.raw_files()))
    except CfgsyncError:
        return False


def _is_signed(cached: CachedPayload, state: NodeState) -> bool:
    if state.verify is None:
        return True
    try:
        state.verify(cached.signature or None, state.identifier, cached.signed, cached.payload.digest)
    except NotSigned:
        return False
    return True
