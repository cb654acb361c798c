"""`cfgsync fetch --watch` after the first files: the node stays in step, and informs its program and systemd of changes.

Two loops do it: `NodeWatch` brings the files, and `Changes` installs them and tells the program. One thread
carries the held request; the main thread handles signals and children.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from typing import Final

from cfgsync_artifacts import DiskError
from cfgsync_core import NEVER, AppliedFiles, NodeRegistration, NodeWatch, ServerUrl
from cfgsync_core.follow import Alarm, ReaderState

from ..process.threads import in_thread
from ..program import children
from ..program.command import Command
from ..program.environment import for_programs
from ..program.sd_notify import ServiceManager, without_us
from ..program.signals import ENDING, PASSED_ON, in_foreground
from .memory.state import KnownGeneration, NodeState
from .network.threads import ThreadedTransport
from .on_changes import HEALTHY_AFTER, OnChange, OnChanges
from .outputs import Planner
from .trials.changes import Changes
from .trials.start import TurnAtStart

INTERVAL: Final = 15.0
CONFIRMED_EVERY: Final = 60.0
"""Seconds between two notes that a server confirmed the files: the precision of `--max-stale`."""
REPORTED_WITHIN: Final = 3.0  # s that the end of the program waits until that is reported


class Watcher:
    """One node, from its first files to its end. `await run()` once, in the main thread.

    `held` is what is in place, `degraded` whether it came from the cache, `acknowledged` whether a server knows that, and
    `told` the digest that a program which is not ours was told of last, and `turn` what a node that takes turns has of its
    earlier life. `start` is the program, [] for none. `say` gets a
    sentence for each thing that an operator should see. `interval` is in seconds. `moved` is the `ThreadedTransport`'s.
    """

    def __init__(
        self,
        registration: Callable[[], Awaitable[NodeRegistration]],
        server: ServerUrl,
        outputs: Planner,
        state: NodeState,
        held: AppliedFiles,
        *,
        identifier: str,
        degraded: bool = False,
        acknowledged: bool = True,
        told: str | None = None,
        turn: TurnAtStart = TurnAtStart(""),  # noqa: B008  # it is frozen
        join_token: str | None = None,
        start: Sequence[str] = (),
        on_changes: OnChanges = OnChanges(),  # noqa: B008  # it is frozen
        interval: float = INTERVAL,
        say: Callable[[str], None] = lambda _: None,
        moved: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._identifier = identifier
        self._state = state
        self._say = say
        self._degraded = degraded
        self._on = on_changes
        self._noted = (held.version, time.monotonic())
        self._alarm: Alarm | None = None
        self._manager = ServiceManager()
        self._server = server
        self._transport = ThreadedTransport(server, moved, state.kept_secret)
        self._ended, self._code = asyncio.Event(), 0
        self._is_dead = False
        self._waits_for = ""  # the generation for which the node waits its turn
        self._interrupts = 0
        self.changes = Changes(
            outputs,
            state,
            held,
            turn,
            on_changes,
            starts=bool(start),
            told=told,
            identifier=identifier,
            tell_program=self._tell_program,
            report=self._acknowledge,
            took_back=lambda held: self.watch.took_back(held),
            is_ending=self._ended.is_set,
            say=say,
        )
        self.watch = NodeWatch(
            registration,
            self._transport.send,
            self.changes.apply,
            secret=state.secret(),
            join_token=join_token,
            held=held,
            told=acknowledged and not degraded and held.version != NEVER,  # a static source may forget it
            interval=interval,
            name=identifier,
            confirmed=self._confirmed,
            is_used=self._is_used,
            inspect=self.changes.inspect,
            verify=state.verify,
            turn=self.changes.trials.turn if turn.group else None,
            on_state=self._state_changed,
            on_alarm=self._alarmed,
            on_failure=self._nothing_came,
        )
        self.command = (
            Command(
                start,
                reload=on_changes.signal if on_changes.how is OnChange.SIGNAL else None,
                grace=on_changes.grace,
                environment=without_us(for_programs()),
                shares=in_foreground(),
                changing=lambda: self._manager.reloading(f"{self._said()}; telling {start[0]}"),
                running=self._program_runs,
                say=say,
                output=self.changes.words,
            )
            if start
            else None
        )

    async def run(self) -> int:
        """Stay in step until the program ends, or a signal ends cfgsync; the exit code."""
        loop = asyncio.get_running_loop()
        children.become_subreaper()
        numbers = [*ENDING, *(PASSED_ON if self.command is not None else ())]
        for number in numbers:
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        running = asyncio.create_task(self.command.run() if self.command else self._run_alone())
        endless = [asyncio.create_task(self.watch.run()), asyncio.create_task(self.changes.run())]
        alive = asyncio.create_task(self._stay_alive())
        try:
            while True:
                await asyncio.wait((running, *endless), return_when=asyncio.FIRST_COMPLETED)
                for task in endless:
                    if task.done() and not task.cancelled():  # cancelled: SIGTERM has stopped a check
                        task.result()  # it ends only by an exception
                code = await running
                if not code or self.command is None or not await self._starts_again(self.command):
                    break
                running = asyncio.create_task(self.command.run())
            if self.command is not None and not self._ended.is_set():
                await self._program_ended(self.command, code)
            return code
        finally:
            self._manager.stopping()
            for ending in (alive, running, *endless):
                ending.cancel()
            await asyncio.gather(alive, running, *endless, return_exceptions=True)
            await self.changes.end()
            self._transport.close()
            self._manager.close()
            for number in (*numbers, signal.SIGCHLD):
                loop.remove_signal_handler(number)

    async def _starts_again(self, command: Command) -> bool:
        """Whether the program, which has failed, did so on trial: it then starts again on the last good files."""
        return not self._ended.is_set() and await self.changes.starts_again(_how(command))

    async def _program_ended(self, command: Command, code: int) -> None:
        """The program has ended by itself. Files that it did not live with for a while count as failed."""
        self._say(f"{self._identifier}: {command.name} {command.outcome}")
        if code and command.seconds_since < HEALTHY_AFTER:
            self._is_dead = True  # from now on nothing is reported as applied
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORTED_WITHIN):
                    await self.changes.is_applied.wait()
                    await self._acknowledge(_how(command))

    async def _run_alone(self) -> int:
        self._manager.ready(self._said())
        await self._ended.wait()
        return self._code

    async def _stay_alive(self) -> None:
        while self._manager.watchdog is not None:
            self._manager.alive()
            await asyncio.sleep(self._manager.watchdog)

    async def _tell_program(self) -> None:
        assert self.command is not None
        await self.command.tell()

    def _program_runs(self) -> None:
        self.changes.program_runs()
        self._manager.ready(self._said())

    async def _acknowledge(self, failure: str | None) -> None:
        # a request may be held on the other one
        with closing(ThreadedTransport(self._server, secret=self._state.kept_secret)) as transport:
            await self.watch.acknowledge(transport.send, failure)
        self.watch.turn_has_changed()

    def _is_used(self, digest: str) -> bool:
        return not self._is_dead and self.changes.is_used(digest)

    async def _confirmed(self, held: AppliedFiles) -> None:
        if self.watch.waits_for != self._waits_for:
            self._waits_for = self.watch.waits_for
            if self._waits_for:
                number = self._waits_for.rpartition(".")[2]
                self._say(f"{self._identifier}: generation {number} waits for this node's turn")
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
        if advice := self.changes.installer.advice():
            self._say(f"{self._identifier}: {advice}")

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

    def _signalled(self, number: int) -> None:
        if number not in ENDING:
            if self.command is not None:
                self.command.send(number)
            return
        self._manager.stopping()
        self._interrupts += 1
        self._ended.set()
        if self._on.check is not None:
            self._on.check.stop()
        if self.command is None:
            self._code = 0 if number == signal.SIGTERM else 128 + number
        elif number != signal.SIGTERM and self._interrupts == 1 and in_foreground():
            self.command.is_ending()  # the terminal sent it to the program as well
        else:
            self.command.end(number)

    def _reap(self) -> None:
        if children.reap_orphans():
            asyncio.get_running_loop().call_later(0.05, self._reap)


def _how(command: Command) -> str:
    """How the program ended, for others."""
    return f"program {command.outcome}" + (f" after {command.last_step}" if command.last_step else "")
