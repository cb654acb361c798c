"""The one owner of a watcher's trial: new files are remembered as good once they prove it, or the last good ones are written
again. A refused set is not tried again unless the server gives it once more."""

from __future__ import annotations

import time

from cfgsync_core import NEVER, AppliedFiles, Fetched, Version
from cfgsync_core.node import RefusedFiles

from ..memory.accepted import remember
from ..memory.state import CachedPayload, NodeState
from ..outputs import Planner, write
from .start import TurnAtStart, is_in_place
from .trial_memory import TrialMemory


class Trials:
    """The trials of one node, which begins with what its start found. `turn` is what the requests say to the server. The methods that
    read or write the disk are called in a thread."""

    def __init__(self, start: TurnAtStart, outputs: Planner, state: NodeState) -> None:
        self.turn = start.turn
        self.good = start.good
        """The last good payload; None while there were only first files."""
        self._outputs = outputs
        self._state = state
        self._memory = TrialMemory(state)
        self._fetched = _fetched(start.placed) if start.on_trial and start.placed is not None else None

    @property
    def is_on(self) -> bool:
        """Whether the files in place are on trial."""
        return bool(self.turn.trial)

    def refuses(self, fetched: Fetched) -> bool:
        """Whether these files are refused for good: a server that does not know what the node names sends them each time."""
        return fetched.to_acknowledge is None and self.turn.has_refused(fetched.digest)

    def begin(self, fetched: Fetched) -> None:
        """These files will be installed. Raises `DiskError`."""
        if self.turn.group and self.good is not None and fetched.digest != self.good.payload.digest:
            self._fetched, self.turn.trial = fetched, fetched.digest
            self._memory.begin(fetched, time.time())
        else:
            self._fetched, self.turn.trial = None, ""

    def abandon(self) -> None:
        """They could not be installed, and what was there before is still there."""
        self._fetched, self.turn.trial = None, ""
        self._memory.abandon()

    def prove(self) -> list[str]:
        """The files of the trial are good. What could not be remembered of that is returned."""
        said: list[str] = []
        if self._fetched is not None:
            remember(self._state, self._fetched, said.append)
            self.settle(self._fetched)
        return said

    def settle(self, fetched: Fetched) -> None:
        """These files are in place, good, and remembered. Raises `DiskError`."""
        if not self.turn.group:
            return
        self.good = _cached(fetched)
        self._fetched, self.turn.trial, self.turn.refused = None, "", None
        self._memory.end()

    def refuse(self, why: str, fetched: Fetched | None = None, words: str = "") -> None:
        """Go back from the files of the trial, or from `fetched`, which did not come into place. `words` are the program's.
        Raises `DiskError`."""
        fetched = fetched or self._fetched
        assert fetched is not None
        self.turn.refused = RefusedFiles(fetched.generation, fetched.digest, why, words)
        self._fetched, self.turn.trial = None, ""
        self._memory.refuse(self.turn.refused)

    def obey(self) -> None:
        """Refused files that a fetch by hand has installed all the same are not refused any more. Raises `DiskError`."""
        refused = self.turn.refused
        if refused is not None and self.turn.has_refused(refused.digest):
            cached = self._state.cached()
            if (
                cached is not None
                and cached.payload.digest == refused.digest
                and is_in_place(cached, self._outputs)
            ):
                self.turn.refused = None
                self._memory.end()

    def restore(self) -> AppliedFiles:
        """Write the last good payload again. Raises `CfgsyncError`."""
        assert self.good is not None  # else there was no trial
        write(self._outputs.plan(self.good.payload.raw_files()))
        return self.last_good

    @property
    def last_good(self) -> AppliedFiles:
        """The last good files, as the watch holds them."""
        assert self.good is not None
        version = Version(self.good.epoch, self.good.number) if self.good.epoch else NEVER
        return AppliedFiles(version, self.good.payload.digest)


def _cached(fetched: Fetched) -> CachedPayload:
    epoch, number = Version.parse(fetched.generation) if fetched.generation else ("", fetched.revision)
    return CachedPayload(fetched.payload, epoch, number, time.time(), fetched.signature, fetched.generation)


def _fetched(cached: CachedPayload) -> Fetched:
    digest = cached.payload.digest
    return Fetched(
        cached.payload,
        cached.signed,
        digest,
        to_acknowledge=digest,
        signature=cached.signature,
        revision=0 if cached.signed else cached.number,
    )
