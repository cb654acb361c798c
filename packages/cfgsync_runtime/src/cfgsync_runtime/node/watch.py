"""`cfgsync fetch --watch` after the first files: the node stays in step, and informs its program and systemd of changes.

It uses the same connection of the standard library as `fetch`. One thread carries the held request; the main thread handles
signals and children.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from cfgsync_artifacts import DiskError
from cfgsync_core import NEVER, AppliedFiles, CfgsyncError, Fetched, NodeRegistration, NodeWatch, ServerUrl
from cfgsync_core.follow import Alarm, ReaderState
from cfgsync_core.text import counted

from .command import GRACE, Command
from .fetch import Outputs, remember
from .outputs import Written, write
from .sd_notify import ServiceManager, without_us
from .state import KnownGeneration, NodeState
from .threads import ThreadedTransport, in_thread

INTERVAL: Final = 15.0
CONFIRMED_EVERY: Final = 60.0
"""Seconds between two notes that a server confirmed the files: the precision of `--max-stale`."""

ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
PASSED_ON: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Watcher:
    """One node, from its first files to its end. `await run()` once, in the main thread.

    `held` is what is in place, `degraded` whether it came from the cache, `told` whether a server has the acknowledgement.
    `start` is the program, [] for none; a change sends it the signal `reload`, or restarts it (None) with `grace` seconds
    to end. `say` gets a sentence for each thing that an operator should see. `interval` and `grace` are in seconds.
    `moved` is the `ThreadedTransport`'s.
    """

    def __init__(
        self,
        registration: NodeRegistration | Callable[[], Awaitable[NodeRegistration]],
        server: ServerUrl,
        outputs: Outputs,
        state: NodeState,
        held: AppliedFiles,
        *,
        identifier: str,
        degraded: bool = False,
        told: bool = True,
        start: Sequence[str] = (),
        reload: signal.Signals | None = None,
        interval: float = INTERVAL,
        grace: float = GRACE,
        say: Callable[[str], None] = lambda _: None,
        moved: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._identifier = identifier
        self._outputs = outputs
        self._state = state
        self._say = say
        self._degraded = degraded
        self._noted = (held.version, time.monotonic())
        self._notes: tuple[str, ...] = ()  # of the last write: one that stays is said once
        self._failed = ""  # why the last files could not be applied
        self._advice = ""  # what to do about it; printed after the reader's line
        self._alarm: Alarm | None = None
        self._manager = ServiceManager()
        self._transport = ThreadedTransport(server, moved)
        self._ended: asyncio.Event | None = None
        self._code = 0
        self._interrupts = 0
        self.watch = NodeWatch(
            registration,
            self._transport.send,
            self._apply,
            secret=state.secret(),
            held=held,
            told=told and not degraded,
            interval=interval,
            name=identifier,
            confirmed=self._confirmed,
            on_state=self._state_changed,
            on_alarm=self._alarmed,
            on_failure=self._nothing_came,
        )
        self.command = (
            Command(
                start,
                reload=reload,
                grace=grace,
                environment=without_us(),
                changing=lambda: self._manager.reloading(f"{self._said()}; telling {start[0]}"),
                running=lambda: self._manager.ready(self._said()),
                say=say,
            )
            if start
            else None
        )

    async def run(self) -> int:
        """Stay in step until the program ends, or a signal ends cfgsync; the exit code."""
        loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        numbers = [*ENDING, *(PASSED_ON if self.command is not None else ())]
        for number in numbers:
            loop.add_signal_handler(number, self._signalled, number)
        watching = asyncio.create_task(self.watch.run())
        running = asyncio.create_task(self.command.run() if self.command else self._run_alone())
        alive = asyncio.create_task(self._stay_alive())
        try:
            await asyncio.wait((watching, running), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                watching.result()  # it ends only by an exception
            return await running
        finally:
            self._manager.stopping()
            for task in (alive, watching, running):
                task.cancel()
            await asyncio.gather(alive, watching, running, return_exceptions=True)
            self._transport.close()
            self._manager.close()
            for number in numbers:
                loop.remove_signal_handler(number)

    async def _run_alone(self) -> int:
        assert self._ended is not None
        self._manager.ready(self._said())
        await self._ended.wait()
        return self._code

    async def _stay_alive(self) -> None:
        while self._manager.watchdog is not None:
            self._manager.alive()
            await asyncio.sleep(self._manager.watchdog)

    async def _apply(self, fetched: Fetched) -> None:
        try:
            written = await in_thread(lambda: self._bring(fetched))
        except CfgsyncError as error:
            if str(error) != self._failed:
                self._failed = str(error)
                hint = f": {error.hint}" if isinstance(error, DiskError) else ""
                self._advice = f"{self._identifier}: the old files stay; cfgsync will try again{hint}"
            raise
        self._failed = ""
        if not written.changed:
            return
        of = f" of generation {fetched.generation.rpartition('.')[2]}" if fetched.generation else ""
        self._say(f"{self._identifier}: {counted(len(written.paths), 'file')} in place{of}")
        if self.command is not None:
            self.command.files_changed()

    def _bring(self, fetched: Fetched) -> Written:
        written = write(self._outputs.plan(fetched.payload.raw_files()))
        for note in written.notes:
            if note not in self._notes:
                self._say(f"note: {note}")
        self._notes = written.notes
        remember(self._state, fetched, self._say)
        return written

    async def _confirmed(self, held: AppliedFiles) -> None:
        now = time.monotonic()
        if self._noted[0] == held.version and now - self._noted[1] < CONFIRMED_EVERY:
            return
        seen = KnownGeneration(held.version.epoch, held.version.revision, held.digest, time.time())
        with suppress(DiskError):  # only the noted age of the cache is then too high
            await in_thread(lambda: self._state.saw(seen))
        self._noted = (held.version, now)

    def _state_changed(self, state: ReaderState) -> None:
        if state is ReaderState.CURRENT and self._degraded:
            self._degraded = False
            self._say(f"{self._identifier}: no longer degraded, {self._said()}")
        self._manager.status(self._said())

    def _nothing_came(self, _: str) -> None:
        if self._advice:
            self._say(self._advice)
            self._advice = ""

    def _alarmed(self, alarm: Alarm) -> None:
        if alarm == self._alarm:
            return
        self._alarm = alarm
        self._say(
            f"{self._identifier}: the files stay; if the server's store was restored from an older copy, or its clock is"
            " behind, stop the server and give the store a new epoch (one with --store memory: starts again with --store"
            f" memory:{alarm.known.epoch}): cfgsync store new-epoch --store URL --after {alarm.known.epoch}"
        )

    def _said(self) -> str:
        held = self.watch.held
        what = f"generation {held.version.revision}" if held and held.version != NEVER else "files in place"
        if self.watch.state is ReaderState.CURRENT:
            return f"current: {what}"
        why = f" ({self.watch.why})" if self.watch.why else ""
        return f"{'degraded' if self._degraded else self.watch.state.value}: {what}{why}"

    def _signalled(self, number: signal.Signals) -> None:
        if number in ENDING:
            self._manager.stopping()
            self._interrupts += 1
            if self.command is None:
                self._code = 0 if number == signal.SIGTERM else 128 + number
                assert self._ended is not None
                self._ended.set()
                return
            self.command.is_ending()
            if number != signal.SIGTERM and self._interrupts == 1 and _in_foreground():
                return  # the terminal sent it to the command as well
        if self.command is not None:
            self.command.send(number)


def _in_foreground() -> bool:
    """True when the terminal sends Ctrl-C to our whole process group, which the program belongs to."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
