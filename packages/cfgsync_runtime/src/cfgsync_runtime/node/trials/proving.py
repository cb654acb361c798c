"""A watcher's trials take their course: new files prove good in time, or the last good ones come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cfgsync_artifacts import CfgsyncError
from cfgsync_core import AppliedFiles, Fetched

from ...process.threads import in_thread
from ...program.last_words import LastWords
from .health import Health
from .trials import Trials


class Proving:
    """Proves the files of `trials` by `health`. `went_back(held)` is called when the last good files are in place again, and
    `report()` is awaited when a trial has ended and the program knows what is in place. `words` are the program's."""

    def __init__(
        self,
        trials: Trials,
        health: Health,
        words: LastWords | None,
        *,
        went_back: Callable[[AppliedFiles], bool],
        report: Callable[[], Awaitable[object]],
        say: Callable[[str], None],
    ) -> None:
        self.trials = trials
        self.changing = asyncio.Lock()
        """Held while files change, and while a trial ends."""
        self._health = health
        self._words = words
        self._went_back = went_back
        self._report = report
        self._say = say
        self._is_over = False
        self._proving: tuple[str, asyncio.Task[None]] | None = None

    async def begin(self, fetched: Fetched) -> None:
        """These files will be installed. `changing` is held, here and below."""
        await self._noted(lambda: self.trials.begin(fetched))

    async def installed(self, fetched: Fetched) -> None:
        """They are in place. Those that are not on trial are good."""
        if not self.trials.is_on:
            await self._noted(lambda: self.trials.settle(fetched))

    async def not_installed(self, fetched: Fetched, refused: str) -> None:
        """They could not be, or a check has `refused` them with these words: what was in place before still is."""
        if refused:
            await self._noted(lambda: self.trials.refuse(refused, fetched))
        else:
            await self._noted(self.trials.abandon)

    async def told(self) -> None:
        """The program knows the files on trial."""
        digest = self.trials.turn.trial
        if not digest or (self._proving is not None and self._proving[0] == digest):
            return
        if self._health.is_instant:
            await self._prove()
        else:
            self._proving = digest, asyncio.create_task(self._watch_over(digest))

    async def died(self, runs_on: str, why: str) -> bool:
        """The program, which ran on the files `runs_on`, has failed. True when it is to be started again, on what is in place
        then."""
        async with self.changing:
            trial, good = self.trials.turn.trial, self.trials.good
            if self._is_over or not trial or good is None or runs_on == good.payload.digest:
                return False
            if runs_on == trial:  # else newer ones have come meanwhile
                await self._go_back(why)
            return True

    async def end(self) -> None:
        """Prove nothing any more: the next start resumes the trial."""
        self._is_over = True
        if self._proving is not None:
            self._proving[1].cancel()
            await asyncio.gather(self._proving[1], return_exceptions=True)

    async def _watch_over(self, digest: str) -> None:
        def is_over() -> bool:
            return self._is_over or self.trials.turn.trial != digest

        why = await self._health.proved(is_over)
        async with self.changing:
            self._proving = None
            if is_over():
                return
            is_to_be_told = await self._go_back(why) if why else await self._prove()
        if not is_to_be_told:
            await self._report()

    async def _prove(self) -> bool:
        said: list[str] = []
        await self._noted(lambda: said.extend(self.trials.prove()))
        for sentence in said:
            self._say(sentence)
        return False

    async def _go_back(self, why: str) -> bool:
        words = "" if self._words is None else await in_thread(self._words.words)
        await self._noted(lambda: self.trials.refuse(why, words=words))
        self._proving = None
        held = self.trials.last_good
        back = (
            f"the files of generation {held.version.revision} are"
            if held.version.epoch
            else "the last good files are"
        )
        try:
            await in_thread(self.trials.restore)
            self._say(f"{why}; {back} in place again")
        except CfgsyncError as error:
            self._say(f"{why}; {back} not in place again: {error}")
        return self._went_back(held)

    async def _noted(self, note: Callable[[], None]) -> None:
        """A note that cannot be written costs only that note."""
        try:
            await in_thread(note)
        except CfgsyncError as error:
            self._say(f"cannot remember which files are on trial: {error}")
