"""The program that runs while files change: it is restarted or signalled at a change, and its exit code becomes ours.

A restart waits until the old program has ended: SIGTERM, then SIGKILL after `grace` seconds. Changes during a restart cause
one more restart at most. At the end of cfgsync the program is never killed, because a database may need minutes. On
Linux the kernel ends the program when cfgsync is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from cfgsync_core.text import cause

GRACE: Final = 10.0
"""Seconds between SIGTERM and SIGKILL at a restart."""

_PR_SET_PDEATHSIG: Final = 1


class Command:
    """`words` as a child process. Use it from the main thread's event loop only: the kernel ties the program's life to the
    thread that starts it.

    A change sends the signal `reload`; None restarts the program. `changing` is called before that, `running` after it and
    after the start; `say` gets a sentence about a program that does not end in time. `environment` replaces ours.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        reload: signal.Signals | int | None = None,
        grace: float = GRACE,
        environment: Mapping[str, str] | None = None,
        changing: Callable[[], None] = lambda: None,
        running: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._words = list(words)
        self._reload = reload
        self._grace = grace
        self._environment = environment
        self._changing = changing
        self._running = running
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._dirty = False
        self._ending = False
        self._overdue: asyncio.TimerHandle | None = None
        self._look = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The process number of the running program."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    def files_changed(self) -> None:
        """Signal or restart the program soon."""
        self._dirty = True
        self._look.set()

    def send(self, number: int) -> None:
        """Pass a signal on; nothing happens when the program has ended."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def is_ending(self) -> None:
        """From now on the program is neither restarted nor killed. After `grace` seconds one line says that it still runs."""
        if not self._ending:
            self._ending = True
            self._overdue = asyncio.get_running_loop().call_later(self._grace, self._is_overdue)

    async def run(self) -> int:
        """Start the program and return its exit code as a shell would: 128 + n for a signal, 127 for an unknown command,
        126 for one that cannot run."""
        try:
            return await self._run()
        finally:
            if self._overdue is not None:
                self._overdue.cancel()

    async def _run(self) -> int:
        self._dirty = False  # a program reads the current files when it starts
        if (code := await self._start()) is None:
            self._running()
        while code is None:
            assert self._process is not None
            ended = asyncio.ensure_future(self._process.wait())
            look = asyncio.ensure_future(self._look.wait())
            await asyncio.wait((ended, look), return_when=asyncio.FIRST_COMPLETED)
            look.cancel()
            self._look.clear()
            if ended.done():
                code = shell_code(ended.result())
            elif self._dirty and not self._ending:
                self._dirty = False
                code = await self._tell(ended)
            else:
                ended.cancel()
        return code

    async def _tell(self, ended: asyncio.Future[int]) -> int | None:
        """Signal or restart the program; its exit code when it has ended."""
        self._changing()
        if self._reload is not None:
            self.send(self._reload)
            ended.cancel()
        else:
            code = shell_code(await self._end(ended))
            if self._ending:
                return code
            self._dirty = False  # the new program reads what changed while the old one ended
            if (failed := await self._start()) is not None:
                return failed
        self._running()
        return None

    async def _end(self, ended: asyncio.Future[int]) -> int:
        self.send(signal.SIGTERM)
        done, _ = await asyncio.wait((ended,), timeout=self._grace)
        if not done and not self._ending:
            self._say(f"{self._words[0]} did not end within {self._grace:g} s of SIGTERM; killing it")
            self.send(signal.SIGKILL)
        return await ended

    def _is_overdue(self) -> None:
        if self.pid is not None:
            self._say(
                f"waiting for {self._words[0]} (process {self.pid}), which got SIGTERM {self._grace:g} s ago and still runs."
                f" cfgsync passes each further SIGTERM on; kill -9 {self.pid} ends the program at once"
            )

    async def _start(self) -> int | None:
        """Start the program; an exit code when that fails."""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            with warnings.catch_warnings():
                # other threads may run; the code before the exec takes no lock
                warnings.simplefilter("ignore", DeprecationWarning)
                self._process = await asyncio.create_subprocess_exec(
                    *self._words, env=self._environment, preexec_fn=_dies_with_us()
                )
        except FileNotFoundError:
            self._say(f"{self._words[0]}: command not found")
            return 127
        except (OSError, ValueError) as error:
            self._say(f"{self._words[0]}: {cause(error)}")
            return 126
        if self._ending:  # SIGTERM arrived before the program started
            self.send(signal.SIGTERM)
        return None


def shell_code(code: int) -> int:
    """A process's return code as a shell reports it."""
    return 128 - code if code < 0 else code


def _dies_with_us() -> Callable[[], None] | None:
    """A function for the child, called before the exec: it asks the kernel to kill the child when cfgsync dies."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (ImportError, OSError, AttributeError):
        return None
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # cfgsync died before this call
            os._exit(128 + signal.SIGKILL)

    return before_exec
