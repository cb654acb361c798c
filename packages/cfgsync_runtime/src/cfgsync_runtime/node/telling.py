"""The program is notified whenever the digest that it was last notified of differs from what is in place.

Its last notification is remembered on disk, not inferred from what was just written: a `fetch` by hand, a crash between
writing and notifying, and a repair are all notified of in the same way.
"""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from cfgsync_artifacts import DiskError

from ..process.threads import in_thread
from .memory.state import NodeState

BASE: Final = 1.0  # s; the pause after a failure, doubled with each further one
CAP: Final = 60.0


class Telling:
    """Keeps the program notified. `tell()` notifies it and returns "", or why it could not; `settled(why)` is awaited after
    each try.

    `told` is the digest that it was last notified of, `in_place` that of the files on disk. `splay` is the longest random
    pause before a notification, in seconds.
    """

    def __init__(
        self,
        state: NodeState,
        tell: Callable[[], Awaitable[str]],
        settled: Callable[[str], Awaitable[object]],
        *,
        told: str,
        in_place: str,
        splay: float = 0.0,
        say: Callable[[str], None] = lambda _: None,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.told = told
        self.in_place = in_place
        self._state = state
        self._tell = tell
        self._settled = settled
        self._splay = splay
        self._say = say
        self._random = random
        self._is_tried = asyncio.Event()
        self._changed = asyncio.Event()
        self._compare()

    def installed(self, digest: str) -> None:
        """Files with this digest are in place."""
        self.in_place = digest
        self._compare()

    async def will_change(self) -> None:
        """The same files will be written again, since somebody changed them: also after a crash the program is notified of
        that. Raises `DiskError`."""
        await in_thread(lambda: self._state.tell(""))

    def changed(self) -> None:
        """The same files were written again: the program does not know them any more."""
        self.told = ""
        self._compare()

    async def note(self, digest: str) -> None:
        """The program knows the files with this digest."""
        self.told = digest
        self._compare()
        try:
            await in_thread(lambda: self._state.tell(digest))
        except DiskError as error:
            self._say(f"cannot remember which files the program was notified of: {error}; {error.hint}")

    async def told_within(self, seconds: float) -> bool:
        """True when the program knows what is in place; waits for one try, so many seconds at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_tried.wait(), seconds)
        return self._is_told

    async def run(self) -> None:
        """Notify the program whenever that is due, until cancelled."""
        failures, last = 0, ""
        spreads = self._is_told  # what is due at the start has no splay: nothing has just changed everywhere
        while True:
            if self._is_told:
                await self._changed.wait()
            if spreads:
                await asyncio.sleep(self._random() * self._splay)
            self._changed.clear()
            if self._is_told:
                continue  # changed, and changed back
            digest = self.in_place
            why = await self._tell()
            if not why:
                await self.note(digest)
            elif why != last:
                self._say(why)
            last = why
            self._is_tried.set()
            await self._settled(why)
            failures, spreads = failures + 1 if why else 0, not why
            if why:
                with suppress(TimeoutError):  # it learns of newer files at once
                    await asyncio.wait_for(self._changed.wait(), min(BASE * 2 ** (failures - 1), CAP))

    @property
    def _is_told(self) -> bool:
        return self.told == self.in_place

    def _compare(self) -> None:
        if self._is_told:
            self._is_tried.set()
        else:
            self._is_tried.clear()
            self._changed.set()
