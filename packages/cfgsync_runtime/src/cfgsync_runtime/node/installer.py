"""A watcher's new files come into place checked, or the old ones stay; each reason and each note is printed once."""

from __future__ import annotations

from collections.abc import Callable

from cfgsync_artifacts import DiskError
from cfgsync_core import CfgsyncError, Fetched

from ..process.threads import in_thread
from .check import Check, CheckRefused, checked_write
from .memory.accepted import remember
from .memory.state import NodeState
from .outputs import Planner, Written


class Installer:
    """Installs files at `outputs` and remembers them in `state`. `say` gets a sentence for each thing that an operator should
    see."""

    def __init__(
        self, outputs: Planner, state: NodeState, check: Check | None, say: Callable[[str], None]
    ) -> None:
        self._outputs = outputs
        self._state = state
        self._check = check
        self._say = say
        self._notes: tuple[str, ...] = ()  # of the last write: one that stays is printed once
        self._failed = ""  # why the last files could not be applied
        self._advice = ""

    async def install(self, fetched: Fetched, *, keep: bool = True) -> Written:
        """Raises `CfgsyncError`, and the old files stay. `keep`: remember these files, as the last good ones."""
        try:
            written = await in_thread(lambda: self._install(fetched, keep))
        except CheckRefused:
            raise
        except CfgsyncError as error:
            self._not_installed(error)
            raise
        self._failed = ""
        for note in written.notes:
            if note not in self._notes:
                self._say(f"note: {note}")
        self._notes = written.notes
        return written

    def advice(self) -> str:
        """What to do about the last failure; "" when it was given before."""
        advice, self._advice = self._advice, ""
        return advice

    def _install(self, fetched: Fetched, keep: bool) -> Written:
        written = checked_write(self._outputs, tuple(fetched.payload.raw_files()), self._check)
        if keep:
            remember(self._state, fetched, self._say)
        return written

    def _not_installed(self, error: CfgsyncError) -> None:
        if str(error) == self._failed:
            return
        self._failed = str(error)
        hint = f": {error.hint}" if isinstance(error, DiskError) else ""
        self._advice = f"the old files stay; cfgsync will try again{hint}"
