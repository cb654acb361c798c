"""The program that runs while files change: it is restarted or signalled at a change, and its exit code becomes ours.

It has a process group of its own, except on a terminal, which sends Ctrl-C to one group only. A restart waits until the old
group is empty: SIGTERM, then SIGKILL after `grace` seconds. At the end of cfgsync nothing is ever killed, because a database
may need minutes. On Linux the kernel ends the program when cfgsync is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from cfgsync_core.text import cause

from ..process.threads import in_thread
from . import children
from .last_words import LastWords
from .process_group import BLOCKED_LOOKS, GRACE, ProcessGroup, catches

HANDLER_WITHIN: Final = 10.0
"""Seconds that a program has to install the handler of its reload signal; then it is restarted instead."""

_PR_SET_PDEATHSIG: Final = 1


class Command:
    """`words` as a child process. Use it from the main thread's event loop only: the kernel ties the program's life to the
    thread that starts it.

    A change sends the signal `reload`; None restarts the program. `changing` is called before that, `running` after it and the
    start; `say` gets a sentence when it does not end in time. `shares`: it stays in our group. `output` knows what it writes.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        reload: signal.Signals | int | None = None,
        grace: float = GRACE,
        handler_within: float = HANDLER_WITHIN,
        environment: Mapping[str, str] | None = None,
        shares: bool = False,
        changing: Callable[[], None] = lambda: None,
        running: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _: None,
        output: LastWords | None = None,
    ) -> None:
        self._words = list(words)
        self._reload = reload
        self._grace = grace
        self._handler_within = handler_within
        self._environment = environment
        self._shares = shares
        self._changing = changing
        self._running = running
        self._say = say
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: asyncio.Future[int] | None = None
        self._group: ProcessGroup | None = None
        self._told: list[asyncio.Future[None]] = []
        self._ending = False
        self._overdue: asyncio.TimerHandle | None = None
        self._look = asyncio.Event()
        self.outcome = ""
        """How the program ended, after `run()`: `ended with exit code 3`."""
        self.last_step = ""
        """What was done with the program last: `its start`, `the restart`, or the signal that was sent; "" when it could
        not be started."""
        self._last_step_at = 0.0

    @property
    def name(self) -> str:
        """The program, as the command line names it."""
        return self._words[0]

    @property
    def seconds_since(self) -> float:
        """Seconds since the last step."""
        return time.monotonic() - self._last_step_at

    @property
    def pid(self) -> int | None:
        """The process number of the running program."""
        return self._process.pid if self._process is not None and self._runs() else None

    async def tell(self) -> None:
        """Signal or restart the program; return when that is done, or when the program has ended for good."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._told.append(told)
        self._look.set()
        await told

    def send(self, number: int) -> None:
        """Pass a signal on to the program's first process; nothing happens when it has ended."""
        if self._process is not None and self._runs():
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def end(self, number: int) -> None:
        """Send the program and all that it started a signal that asks them to end. From now on the program is neither
        restarted nor killed; after `grace` seconds one line says that it still runs."""
        self.is_ending()
        self._to_all(number)

    def is_ending(self) -> None:
        """As `end`, when the program has got its signal already."""
        if self._ending:
            return
        self._ending = True
        self._overdue = asyncio.get_running_loop().call_later(self._grace, self._is_overdue)
        self._look.set()

    async def run(self) -> int:
        """Start the program and return its exit code as a shell would: 128 + n for a signal, 127 for an unknown command,
        126 for one that cannot run. It may be run again then."""
        try:
            code = await self._run()
            if self._ending:
                await self._gone(None)
            return code
        finally:
            if self._overdue is not None:
                self._overdue.cancel()
            self._answer(self._told)

    async def _run(self) -> int:
        if (code := self._start()) is not None:
            return code
        self._running()
        while True:
            assert self._ended is not None
            look = asyncio.ensure_future(self._look.wait())
            await asyncio.wait((self._ended, look), return_when=asyncio.FIRST_COMPLETED)
            look.cancel()
            self._look.clear()
            if self._ended.done():
                self.outcome = f"ended {_how(self._ended.result())}"
                return shell_code(self._ended.result())
            if self._told and not self._ending:
                told, self._told = self._told, []  # the program gets another signal for a later change
                code = await self._change(told)
                self._answer(told)
                if code is not None:
                    return code

    async def _change(self, told: list[asyncio.Future[None]]) -> int | None:
        """Signal or restart the program; its exit code when it has ended for good. `told` gets what a restart also tells."""
        self._changing()
        if self._reload is None or not await self._signalled(self._reload):
            code = await self._end()
            if self._ending:
                return code
            told += self._told  # the new program reads what changed while the old one ended
            self._told = []
            if (failed := self._start()) is not None:
                return failed
        self._running()
        return None

    async def _signalled(self, number: int) -> bool:
        """Send the reload signal once the program handles it: before that, it would end the program. False when it is to
        be restarted instead."""
        assert self._process is not None
        until, blocked = time.monotonic() + self._handler_within, 0
        while not catches(self._process.pid, number, blocked_counts=blocked > BLOCKED_LOOKS):
            blocked = blocked + 1 if catches(self._process.pid, number) else 0
            if not self._runs() or self._ending:
                return True
            if time.monotonic() >= until:
                name = signal.Signals(number).name
                self._say(
                    f"{self._words[0]} has no handler for {name} after {self._handler_within:g} s; restarting it instead"
                )
                return False
            await asyncio.sleep(0.05)
        self.send(number)
        self._step(signal.Signals(number).name)
        return True

    async def _end(self) -> int:
        self._to_all(signal.SIGTERM)
        gone = await self._gone(self._grace)
        if not gone and not self._ending:
            self._say(f"{self._words[0]} did not end within {self._grace:g} s of SIGTERM; killing it")
            self._to_all(signal.SIGKILL)
        assert self._ended is not None
        await self._gone(None)
        return shell_code(self._ended.result())

    async def _gone(self, within: float | None) -> bool:
        """True when the program and its group have ended, within so many seconds."""
        until = None if within is None else time.monotonic() + within
        pause = 0.01
        while self._runs() or (self._group is not None and self._group.is_running()):
            left = pause if until is None else min(pause, until - time.monotonic())
            if left <= 0:
                return False
            if self._ended is not None and not self._ended.done():
                await asyncio.wait((self._ended,), timeout=left)
            else:
                await asyncio.sleep(left)
            pause = min(pause * 2, 0.2)
        return True

    def _is_overdue(self) -> None:
        if self._process is not None:
            self._say(
                f"waiting for {self._words[0]} (process {self._process.pid}), which got SIGTERM {self._grace:g} s ago and still"
                f" runs. cfgsync passes each further SIGTERM on; kill -9 {self._killed_by} ends the program at once"
            )

    @property
    def _killed_by(self) -> str:
        assert self._process is not None
        return str(self._process.pid) if self._group is None else f"-- -{self._process.pid}"

    def _start(self) -> int | None:
        """Start the program; an exit code when that fails."""
        self._step("its start" if self._process is None else "the restart")
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        try:
            with warnings.catch_warnings():
                # other threads may run; the code before the exec takes no lock
                warnings.simplefilter("ignore", DeprecationWarning)
                self._process = children.start(
                    self._words,
                    env=self._environment,
                    preexec_fn=_dies_with_us(),
                    process_group=None if self._shares else 0,
                    **(self._output.streams if self._output is not None else {}),
                )
        except FileNotFoundError:
            self.outcome, self.last_step = "could not be started: command not found", ""
            return 127
        except (OSError, ValueError) as error:
            self.outcome, self.last_step = f"could not be started: {cause(error)}", ""
            return 126
        process = self._process
        self._ended = asyncio.ensure_future(in_thread(lambda: children.wait(process)))
        self._group = None if self._shares else ProcessGroup(process.pid)
        if self._ending:  # SIGTERM arrived before the program started
            self._to_all(signal.SIGTERM)
        return None

    def _step(self, what: str) -> None:
        self.last_step, self._last_step_at = what, time.monotonic()
        if self._output is not None:
            self._output.begin()

    def _runs(self) -> bool:
        return self._ended is not None and not self._ended.done()

    def _to_all(self, number: int) -> None:
        if self._group is None:
            self.send(number)
        else:
            self._group.send(number)

    @staticmethod
    def _answer(told: list[asyncio.Future[None]]) -> None:
        for future in told:
            if not future.done():
                future.set_result(None)


def _how(code: int) -> str:
    try:
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    except ValueError:  # a real-time signal has no name
        return f"by signal {-code}"


def shell_code(code: int) -> int:
    """A process's return code as a shell reports it."""
    return 128 - code if code < 0 else code


def _dies_with_us() -> Callable[[], None] | None:
    """A function for the child, called before the exec: it asks the kernel to kill the child when cfgsync dies."""
    if (prctl := children.linux_prctl()) is None:
        return None
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # cfgsync died before this call
            os._exit(128 + signal.SIGKILL)

    return before_exec
