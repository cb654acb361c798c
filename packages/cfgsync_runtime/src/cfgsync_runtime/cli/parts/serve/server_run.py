"""The whole run of `cfgsync serve`, from its flags to its exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from cfgsync_artifacts import CfgsyncError
from cfgsync_core.log_events import event

from ....backends.engines import without_password
from ....listening import load_http_server, raise_file_limit
from ....process.dumpable import refuse_inspection
from ....process.garbage import collect_rarely, collection_paused
from ....process.logs import log_to_stderr
from ....process.loop_faults import LoopFaults
from ....process.server_signals import server_signals
from ....settings.serve_settings import ServeSettings
from ....settings.settings_reader import read_serve_settings
from ..messages import Over, failed, note
from ..unfailing_stream import make_stdout_unfailing
from .reloads import Reloads
from .served import Running, served

if TYPE_CHECKING:
    from cfgsync_core import HttpServer

    from ....access.tls import ServerCertificate


log = logging.getLogger("cfgsync")


def run_server(flags: Mapping[str, object]) -> Over:
    """Serve what the flags (by field) and the environment say; the exit code. A failure is two lines on stderr."""

    def read() -> ServeSettings:
        return read_serve_settings(flags, say=note)

    try:
        code = serve(read(), read)
    except CfgsyncError as error:
        code = failed(error)
    # ended at once: a materializer under --debug may still run, and daemon threads can crash an interpreter that is being deleted
    return Over(code)


def serve(settings: ServeSettings, read_again: Callable[[], ServeSettings]) -> int:
    """Serve until a signal comes, and return the exit code; SIGHUP calls `read_again` for the contents of a file. Raises
    `InputError`, `StoreRefused`, `MachineRefused`."""
    lines = log_to_stderr(settings.json_logs)
    if not settings.debug:  # a debugger needs the real one, and to look into this process
        make_stdout_unfailing()
        refuse_inspection()
    terminal = _terminal()
    try:
        tls = _certificate(settings)
        running, adopt = served(settings, lines, tls)
        reloads = Reloads(settings, adopt, read_again, None if tls is None else tls.reload)
        raise_file_limit()
        with asyncio.Runner(loop_factory=_event_loop()) as runner:
            return runner.run(_serve(settings, running, reloads))
    finally:
        lines.end()
        if terminal is not None and _terminal() not in (terminal, None):  # a debugger still waits for a line
            termios.tcsetattr(0, termios.TCSADRAIN, terminal)


def _event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where there is one: a request takes it a seventh less. None is asyncio's own."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop


def _terminal() -> list[Any] | None:
    """The settings of the terminal that is stdin, None for another stdin, and after it has hung up."""
    try:
        return termios.tcgetattr(0)
    except (termios.error, OSError):
        return None


def _certificate(settings: ServeSettings) -> ServerCertificate | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    from ....access.tls import ServerCertificate

    return ServerCertificate(settings.tls_cert, settings.tls_key)


async def _serve(settings: ServeSettings, running: Running, reloads: Reloads) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(LoopFaults())
    broken: asyncio.Future[BaseException] = loop.create_future()

    def on_fatal(error: BaseException) -> None:
        if not broken.done():
            broken.set_result(error)

    async with server_signals() as signals, AsyncExitStack() as stack:
        try:
            with collection_paused(), _cancelled_by(signals.stopped):
                stack.callback(
                    asyncio.create_task(load_http_server()).cancel
                )  # while the materializer's process starts
                server = await stack.enter_async_context(running(on_fatal))
        except asyncio.CancelledError:
            if not signals.stopped.done():
                raise
            return _exit_code(signals.stopped)
        collect_rarely()
        _say_where(settings, server)
        stack.callback(asyncio.create_task(reloads.follow(signals.reload)).cancel)
        ends: list[asyncio.Future[Any]] = [signals.stopped, broken]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if broken.done():
            log.critical(
                "the store has failed, and this server ends: %s", broken.result(), extra=event("store_failed")
            )
            return 1
        name = signals.stopped.result().name
        log.info(
            "%s: shutting down; waiting nodes will reconnect", name, extra=event("stopping", signal=name)
        )
    return _exit_code(signals.stopped)


@contextmanager
def _cancelled_by(stopped: asyncio.Future[signal.Signals]) -> Iterator[None]:
    """Cancel this task when `stopped` is done: what starts a server may take long, and hears a signal all the same."""
    task = asyncio.current_task()
    assert task is not None

    def cancel(_: object) -> None:
        task.cancel()

    stopped.add_done_callback(cancel)
    try:
        yield
    except asyncio.CancelledError:
        if stopped.done():
            task.uncancel()
        raise
    finally:
        stopped.remove_done_callback(cancel)


def _exit_code(stopped: asyncio.Future[signal.Signals]) -> int:
    return 130 if stopped.result() == signal.SIGINT else 0


def _say_where(settings: ServeSettings, server: HttpServer) -> None:
    has_store = settings.requires_tokens or not settings.is_static
    kept = f", store {without_password(settings.store)}" if has_store else ""
    what = "documents" if settings.server is None else settings.server.file
    what = settings.materializer or what
    print(f"serving {what} on {server.url}{kept}", flush=True)
    for url in server.urls[1:]:
        print(f"also on {url}", flush=True)
