"""Files that were changed on this machine are restored, a few times, or reported; the program learns of a repair."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cfgsync_core import CfgsyncError
from cfgsync_core.text import counted

from ..process.threads import in_thread
from .drift import WITHIN, Changed, InstalledFiles
from .outputs import write
from .telling import Telling


class DriftGuard:
    """Looks at the installed files of one node. Without `repairs` it only reports what it finds."""

    def __init__(
        self,
        files: InstalledFiles,
        *,
        repairs: bool,
        telling: Telling | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._files = files
        self._repairs = repairs
        self._telling = telling
        self._say = say
        self._found: tuple[Changed, ...] = ()

    def installed(self, digest: str) -> None:
        """Files with this digest were installed just now."""
        self._files.replaced(digest)
        self._found = ()

    async def inspect(self) -> tuple[str, ...]:
        """The payload paths of files that were changed on this machine and stay so."""
        try:
            found = await in_thread(self._files.look)
            if found and self._repairs and self._files.may_repair(found, time.monotonic()):
                await self._repair(found)
                found = ()
            elif found and found != self._found:
                self._say(self._sentence(found))
        except CfgsyncError as error:
            found = await in_thread(self._files.look)
            if found != self._found:
                self._say(f"changed files cannot be restored: {error}")
        self._found = found
        return tuple(file.path for file in found)

    async def _repair(self, found: Sequence[Changed]) -> None:
        plan = await in_thread(self._files.plan)
        if plan is None:
            return
        if self._telling is not None:
            await self._telling.will_change()
        written = await in_thread(lambda: write(plan))
        for note in written.notes:
            self._say(f"note: {note}")
        self._files.replaced(self._files.digest)
        self._say(f"restored {counted(len(found), 'file')} changed on this machine: {_places(found)}")
        if self._telling is not None:
            self._telling.changed()

    def _sentence(self, found: Sequence[Changed]) -> str:
        what = f"{counted(len(found), 'file')} changed on this machine: {_places(found)}"
        if not self._repairs:
            return f"{what}; cfgsync leaves them (--on-drift repair restores them)"
        return (
            f"{what}; cfgsync does not restore a file a third time within {WITHIN / 60:g} minutes: stop the program that"
            " writes there, or use --on-drift report"
        )


def _places(files: Sequence[Changed]) -> str:
    """The first of these files, for a sentence."""
    shown = ", ".join(file.place for file in files[:3])
    return shown if len(files) <= 3 else f"{shown} and {len(files) - 3} more"
