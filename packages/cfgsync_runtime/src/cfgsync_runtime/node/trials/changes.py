"""What follows new files on a watching node: they are checked and installed, the program is told, and they are on trial."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from cfgsync_core import AppliedFiles, CfgsyncError, Fetched
from cfgsync_core.text import counted

from ...process.threads import in_thread
from ...program.environment import for_programs
from ...program.last_words import LastWords
from ...program.sd_notify import without_us
from ...program.shell_line import run_line
from ..check import CheckRefused
from ..drift import InstalledFiles
from ..drift_guard import DriftGuard
from ..installer import Installer
from ..memory.state import NodeState
from ..on_changes import OnChange, OnChanges
from ..outputs import OutputDirectory, Planner
from ..telling import Telling
from .health import Health
from .proving import Proving
from .start import TurnAtStart
from .trials import Trials

TOLD_WITHIN: Final = 2.0  # s to tell the program before the next request, so that one connection carries both


class Changes:
    """The changes of one node, from `held` on. `starts`: cfgsync starts a program, which reads the files at its start;
    `told` is the digest that another one was told of last. `tell_program()` restarts or signals it. `report(failure)` sends
    an acknowledgement, `took_back(held)` is called when the last good files are in place again, and `is_ending()` when
    nothing is waited for any more. `say` gets a sentence for each thing that an operator should see."""

    def __init__(
        self,
        outputs: Planner,
        state: NodeState,
        held: AppliedFiles,
        turn: TurnAtStart,
        on_changes: OnChanges,
        *,
        starts: bool,
        told: str | None,
        identifier: str,
        tell_program: Callable[[], Awaitable[None]],
        report: Callable[[str | None], Awaitable[None]],
        took_back: Callable[[AppliedFiles], None],
        is_ending: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self._on = on_changes
        self._tell_program = tell_program
        self._report = report
        self._took_back = took_back
        self._is_ending = is_ending
        self._say: Callable[[str], None] = lambda sentence: say(f"{identifier}: {sentence}")
        self._untold = ""  # why the program could not be told, for others
        self._reported = ""  # the digest that an apply acknowledges itself, over its own connection
        self._runs_on = ""  # the digest of the files that the program started with, or was told of last
        self._in_place = held.digest
        self._reporting: asyncio.Future[None] | None = None
        self.is_applied = asyncio.Event()
        """The watch holds what is in place."""
        self.is_applied.set()
        self.words = LastWords(f"{identifier}: ") if starts and turn.group else None
        self.trials = Trials(turn, outputs, state)
        self._proving = Proving(
            self.trials,
            Health(on_changes.proves_after(starts), on_changes.health, on_changes.health_within),
            self.words,
            went_back=self._went_back,
            report=lambda: report(None),
            say=self._say,
        )
        self.installer = Installer(outputs, state, on_changes.check, say)
        self.telling = (
            Telling(
                state,
                self._tell,
                self._settled,
                told=held.digest if starts or told is None else told,
                in_place=held.digest,
                splay=on_changes.splay,
                say=self._say,
            )
            if on_changes.tells(starts)
            else None
        )
        self._guard = DriftGuard(
            InstalledFiles(outputs, state, held.digest),
            repairs=on_changes.repairs(isinstance(outputs, OutputDirectory)),
            telling=self.telling,
            say=self._say,
        )

    async def run(self) -> None:
        """Resume a trial, and keep the program told, until cancelled."""
        telling = self.telling
        if telling is None or telling.told == telling.in_place:
            await self._told()
        if telling is not None:
            await telling.note(telling.told)
            await telling.run()
        await asyncio.get_running_loop().create_future()

    async def end(self) -> None:
        """The program has ended, or cfgsync does."""
        await self._proving.end()
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
        if self.words is not None:
            await in_thread(self.words.close)

    def program_runs(self) -> None:
        """The program has started, or was told: it knows what is in place."""
        self._runs_on = self._in_place

    async def starts_again(self, why: str) -> bool:
        """The program has failed. True when it did so on trial, and is to start again, on the files that are in place now."""
        await self.is_applied.wait()
        if not await self._proving.died(self._runs_on, why):
            return False
        if self.telling is not None:  # without a pause: else it would be told of what it starts with
            await self.telling.note(self.telling.in_place)
        if self.trials.is_on:  # newer files, which came meanwhile
            await self._told()
        else:
            self._reporting = asyncio.ensure_future(self._report(None))
        return True

    def is_used(self, digest: str) -> bool:
        """Whether these files are in use, and good as far as one can know."""
        return not self.trials.is_on and (self.telling is None or self.telling.told == digest)

    async def inspect(self) -> tuple[str, ...]:
        """The payload paths of files that were changed on this machine and stay so."""
        if self.trials.turn.refused is not None:
            with suppress(CfgsyncError):
                await in_thread(self.trials.obey)
        return await self._guard.inspect()

    async def apply(self, fetched: Fetched) -> None:
        """Bring them into place; a check may refuse them. Raises `CfgsyncError`, and the old files stay."""
        self.is_applied.clear()
        try:
            async with self._proving.changing:
                if not self.trials.refuses(fetched):
                    await self._apply(fetched)
        except CheckRefused as error:
            if self._is_ending():
                raise asyncio.CancelledError from None  # we stopped the check: it is no answer
            self._say(f"{error}; {error.hint}")
        finally:
            asyncio.get_running_loop().call_soon(self.is_applied.set)  # the watch holds them before that

    async def _apply(self, fetched: Fetched) -> None:
        await self._proving.begin(fetched)
        try:
            written = await self.installer.install(fetched, keep=not self.trials.is_on)
        except CfgsyncError as error:
            refused = isinstance(error, CheckRefused) and not self._is_ending()
            await self._proving.not_installed(fetched, error.for_others if refused else "")
            raise
        await self._proving.installed(fetched)
        self._in_place = fetched.digest
        self._guard.installed(fetched.digest)
        if written.changed:
            of = f" of generation {fetched.generation.rpartition('.')[2]}" if fetched.generation else ""
            self._say(f"{counted(len(written.paths), 'file')} in place{of}")
        if self.telling is not None:
            self.telling.installed(fetched.digest)
            is_told = await self.telling.told_within(0.0 if self._is_ending() else TOLD_WITHIN)
            self._reported = fetched.digest if is_told else ""
            if not is_told:
                return
        await self._proving.told()

    async def _tell(self) -> str:
        if self._on.how is not OnChange.COMMAND:
            await self._tell_program()
            return ""
        environment = without_us(for_programs())
        digest = self._in_place
        end = await in_thread(lambda: run_line(self._on.line, environment))
        if not end.wrong:
            self._runs_on = digest
            return ""
        self._untold = f"--reload-command failed: {end.wrong}"
        return f"--reload-command failed: {end.sentence}"

    async def _settled(self, why: str) -> None:
        await self.is_applied.wait()
        if not why and self.telling is not None and self._reported == self.telling.told:
            return
        self._reported = ""
        if not why:
            await self._told()
        if why or not self.trials.is_on:
            await self._report(self._untold if why else None)

    async def _told(self) -> None:
        async with self._proving.changing:
            await self._proving.told()

    def _went_back(self, held: AppliedFiles) -> bool:
        """True when the program is to be told of them."""
        self._in_place = held.digest
        self._guard.installed(held.digest)
        self._took_back(held)
        if self.telling is not None:
            self.telling.installed(held.digest)
        return self.telling is not None
