"""One command that runs while files change: started, told of changes, ended with us, its exit code ours.

A change either sends it a signal or restarts it; a restart waits for the old one to end, kindly and then not, and what
changes meanwhile is one more restart at most. When the end is the end of all, it is waited for however long it takes (a
database may need minutes), and that is said. Where the kernel can (Linux), the command dies with us, also by kill −9.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cfgsync_core.text import cause

GRACE: Final = 10.0
"""Seconds that an old command has to end after SIGTERM, before it is killed."""

_PR_SET_PDEATHSIG: Final = 1


class Command:
    """`words` as a child process. Used from the main thread's event loop only: the kernel ties the command's life to the
    thread that starts it.

    `reload` is the signal that tells it of a change; None restarts it. `changing` is called before it is told,
    `running` when it was started or told; `say` gets a sentence when it had to be killed, or is waited for. `environment` replaces ours.
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
        """Of the command that runs now."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    def files_changed(self) -> None:
        """Tell the command, soon."""
        self._dirty = True
        self._look.set()

    def send(self, number: int) -> None:
        """Pass a signal on."""
        self._signal(number)

    def is_ending(self) -> None:
        """It is to end, so it is not restarted any more, nor killed. That it takes long is said once."""
        if not self._ending:
            self._ending = True
            self._overdue = asyncio.get_running_loop().call_later(self._grace, self._is_overdue)

    async def run(self) -> int:
        """Start it, and tell it of changes until it ends by itself or was sent what ends it; its exit code as a shell
        says it (128 + n for a signal, 127 for no such command, 126 for one that cannot run)."""
        try:
            return await self._run()
        finally:
            if self._overdue is not None:
                self._overdue.cancel()

    async def _run(self) -> int:
        self._dirty = False  # it reads what is in place when it starts
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
        """Signal or restart it; an exit code when it is over."""
        self._changing()
        if self._reload is not None:
            self._signal(self._reload)
            ended.cancel()
        else:
            code = shell_code(await self._end(ended))
            if self._ending:
                return code
            self._dirty = False  # what changed while the old one ended is in place as well
            if (failed := await self._start()) is not None:
                return failed
        self._running()
        return None

    async def _end(self, ended: asyncio.Future[int]) -> int:
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait((ended,), timeout=self._grace)
        if not done and not self._ending:
            self._say(f"{self._words[0]} did not end within {self._grace:g} s of SIGTERM, and is killed")
            self._signal(signal.SIGKILL)
        return await ended

    def _is_overdue(self) -> None:
        if self.pid is not None:
            self._say(
                f"{self._words[0]} (process {self.pid}) was told to end {self._grace:g} s ago and still runs; it is waited for."
                f" Each further SIGTERM is passed on to it; kill -9 {self.pid} ends it at once"
            )

    async def _start(self) -> int | None:
        """Start it; an exit code when that fails."""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            with warnings.catch_warnings():
                # a thread that carries a request may be there; what runs before the exec takes no lock
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
        if self._ending:  # it was to end before it began
            self._signal(signal.SIGTERM)
        return None

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            try:
                self._process.send_signal(number)
            except ProcessLookupError:
                return


def shell_code(code: int) -> int:
    """A process's return code as a shell says it."""
    return 128 - code if code < 0 else code


def _dies_with_us() -> Callable[[], None] | None:
    """What the child calls before it becomes the command: the kernel is to kill it when we die."""
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
        if os.getppid() != parent:  # we died before the kernel was told
            os._exit(128 + signal.SIGKILL)

    return before_exec
