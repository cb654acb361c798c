"""The signals of a server: SIGTERM and Ctrl-C stop it; SIGHUP makes it read its file again, or stops it if its terminal is
gone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cfgsync_core.log_events import event

log = logging.getLogger("cfgsync")

LOOK_AGAIN: Final = 0.5
"""Seconds after a SIGHUP: a shell that exits sends it first, and gives its terminal up then."""


class ServerSignals:
    """`stopped` gets the first signal that stops the server; `reload` is set by a SIGHUP that does not."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.stopped: asyncio.Future[signal.Signals] = self._loop.create_future()
        self.reload = asyncio.Event()
        self._began_on_a_terminal = has_terminal()

    def stop(self, sent: signal.Signals) -> None:
        """SIGTERM or SIGINT."""
        if not self.stopped.done():
            self.stopped.set_result(sent)

    def hang_up(self) -> None:
        """SIGHUP."""
        if not self._terminal_is_gone():
            self.reload.set()
            self._loop.call_later(LOOK_AGAIN, self._terminal_is_gone)

    def _terminal_is_gone(self) -> bool:
        gone = self._began_on_a_terminal and not has_terminal()
        if gone:
            self.stop(signal.SIGHUP)
        return gone


@asynccontextmanager
async def server_signals() -> AsyncIterator[ServerSignals]:
    """The signals while the context lasts. A second SIGTERM or SIGINT has the effect that it had before the context. SIGHUP
    stays ignored if it was ignored at the start (`nohup`)."""
    loop = asyncio.get_running_loop()
    heard = ServerSignals()
    before = {sent: signal.getsignal(sent) for sent in (signal.SIGTERM, signal.SIGHUP)}

    def release(sent: signal.Signals) -> None:
        loop.remove_signal_handler(sent)
        if callable(handler := before.get(sent)):  # of PID 1, for which the kernel has no default
            signal.signal(sent, handler)

    def stop(sent: signal.Signals) -> None:
        release(sent)
        heard.stop(sent)

    caught = [signal.SIGTERM, signal.SIGINT]
    for sent in caught:
        loop.add_signal_handler(sent, stop, sent)
    if before[signal.SIGHUP] is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, heard.hang_up)
        caught.append(signal.SIGHUP)
    else:
        log.info("SIGHUP is ignored: started under nohup", extra=event("sighup_ignored"))
    try:
        yield heard
    finally:
        for sent in caught:
            release(sent)


def has_terminal() -> bool:
    """True when this process has a controlling terminal that has not hung up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
