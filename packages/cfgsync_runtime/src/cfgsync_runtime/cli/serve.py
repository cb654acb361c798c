"""`cfgsync serve`: a materializer, a bundle or a server file, until SIGTERM drains it."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from cfgsync_adapter import RegistrationConfigSource, RegistrationSnapshotMaterializer
from cfgsync_core import BundleConfigSource, StoreRefused
from cfgsync_core.log_events import event

from ..access.insecure import is_loopback
from ..compose import serving_snapshot, serving_source
from ..document_server import serving_documents
from ..errors import InputError, MachineRefused
from ..listening import load_http_server, raise_file_limit
from ..materializer.child import ChildDecider
from ..materializer.loading import load_materializer
from ..process.garbage import collect_rarely, collection_paused
from ..process.lines import Lines
from ..process.logs import log_of_application, log_to_stderr, passing_on
from ..process.loop_faults import LoopFaults
from ..process.server_signals import server_signals
from ..settings.serve_settings import REPEATED, ServeSettings, flag_of
from ..settings.server_file import RegistrationServer, StaticServer
from ..settings.settings_reader import read_serve_settings
from .parts.messages import Over, fail, note
from .parts.reloads import FileArtifacts, Reloads
from .parts.unfailing_stream import make_stdout_unfailing

if TYPE_CHECKING:
    from cfgsync_core import HttpServer

Served: TypeAlias = (
    ChildDecider | RegistrationSnapshotMaterializer | FileArtifacts | BundleConfigSource | None
)
"""None: documents alone."""

log = logging.getLogger("cfgsync")


def command(
    materializer: Annotated[
        str | None, typer.Argument(metavar="[MODULE:CLASS]", help="The application's materializer.")
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Serve the files of a bundle; no node has to register.", envvar=[]),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A server file, in the original's format.", envvar=[]),
    ] = None,
    **flags: object,
) -> None:
    """Serve a materializer, a bundle or a server configuration, and config documents.

    \b
    Examples:
      cfgsync serve app:MyMaterializer
      cfgsync serve app:MyMaterializer --port 0 --store memory:
      cfgsync serve --bundle bundle.yaml
      cfgsync serve --config server.yaml --json-logs
      cfgsync serve --documents

    Serves until SIGTERM or Ctrl-C; waiting nodes then reconnect. SIGHUP reads a bundle or server file again. Exit codes: 0 after SIGTERM, 130 after Ctrl-C, 1 the
    machine refuses (port, store), 2 an argument is wrong. flag > environment > file > default.
    """
    flags |= {"materializer": materializer, "bundle": bundle, "config": config}

    def read() -> ServeSettings:
        return read_serve_settings(flags, say=note)

    try:
        code = serve(read(), read)
    except InputError as error:
        raise typer.Exit(Over(fail(2, str(error), error.hint))) from error
    except (StoreRefused, MachineRefused) as error:
        raise typer.Exit(Over(fail(1, str(error), error.hint))) from error
    # ended at once: a materializer under --debug may still run, and daemon threads can crash an interpreter that is being deleted
    raise typer.Exit(Over(code))


def _options() -> Iterator[Parameter]:
    """The flags of the fields of `ServeSettings`. Their environment variables are read with the settings."""
    kinds: dict[str | None, type] = {"PORT": int, "PERCENT": float, None: bool}
    for name, field in ServeSettings.model_fields.items():
        if field.description is not None:
            kind = list[str] if name in REPEATED else kinds.get(field.title, str)
            names = [flag_of(name)] if kind is bool else []  # without a name, typer adds --no-<flag>
            option = typer.Option(*names, metavar=field.title, help=field.description, envvar=[])
            yield Parameter(
                name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
            )


_written = signature(command, eval_str=True)
command.__dict__["__signature__"] = _written.replace(
    parameters=[*list(_written.parameters.values())[:-1], *_options()]
)


def serve(settings: ServeSettings, read_again: Callable[[], ServeSettings]) -> int:
    """Serve until a signal comes, and return the exit code; SIGHUP calls `read_again` for the contents of a file. Raises
    `InputError`, `StoreRefused`, `MachineRefused`."""
    lines = log_to_stderr(settings.json_logs)
    if not settings.debug:  # a debugger needs the real one
        make_stdout_unfailing()
    terminal = _terminal()
    try:
        made = _served(settings, lines)
        raise_file_limit()
        with asyncio.Runner(loop_factory=_event_loop()) as runner:
            return runner.run(_serve(settings, made, read_again))
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


def _served(settings: ServeSettings, lines: Lines) -> Served:
    if isinstance(settings.server, StaticServer):
        return BundleConfigSource(settings.server.bundle, settings.server.file)
    if isinstance(settings.server, RegistrationServer):
        return FileArtifacts(settings.server)
    if settings.materializer is None:
        return None
    if not settings.debug:
        printed = passing_on(lines, settings.json_logs)
        return ChildDecider(settings.materializer, printed=printed, json_logs=settings.json_logs)
    log_of_application(handler=lines)
    try:
        return load_materializer(settings.materializer)
    except InputError as error:
        if error.trace:
            lines.say(error.trace)
        raise


async def _serve(settings: ServeSettings, made: Served, read_again: Callable[[], ServeSettings]) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(LoopFaults())
    broken: asyncio.Future[BaseException] = loop.create_future()

    def on_fatal(error: BaseException) -> None:
        if not broken.done():
            broken.set_result(error)

    reloads = Reloads(settings, made, read_again)
    async with server_signals() as signals, AsyncExitStack() as stack:
        try:
            with collection_paused(), _cancelled_by(signals.stopped):
                stack.callback(
                    asyncio.create_task(load_http_server()).cancel
                )  # while the materializer's process starts
                if isinstance(made, ChildDecider):
                    await stack.enter_async_context(made)
                server = await stack.enter_async_context(_running(settings, made, on_fatal, reloads.on_open))
        except asyncio.CancelledError:
            if not signals.stopped.done():
                raise
            return _exit_code(signals.stopped)
        collect_rarely()
        _say_where(settings, made, server)
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


def _say_where(settings: ServeSettings, made: Served, server: HttpServer) -> None:
    kept = "" if isinstance(made, BundleConfigSource) else f", store {settings.store}"
    what = settings.materializer or getattr(settings.server, "file", "documents")
    print(f"serving {what} on {server.url}{kept}", flush=True)
    for url in server.urls[1:]:
        print(f"also on {url}", flush=True)


def _running(
    settings: ServeSettings,
    made: Served,
    on_fatal: Callable[[BaseException], None],
    on_open: Callable[[RegistrationConfigSource], None],
) -> AbstractAsyncContextManager[HttpServer]:
    common: dict[str, Any] = settings.model_dump(
        include={"host", "port", "legacy_init_with_node", "title", "page_contents"}
    )
    common |= {"lacking": settings.lacking, "page": not settings.no_page}
    common |= {"admin_socket": settings.admin_socket or True}
    if made is None:
        return serving_documents(
            lacking=settings.lacking,
            admin_socket=settings.admin_socket or True,
            on_fatal=on_fatal,
            **settings.model_dump(include={"host", "port", "store", "open_documents"}),
        )
    if isinstance(made, BundleConfigSource):
        return serving_source(made, made, acknowledging=made, details=made, **common)
    return serving_snapshot(
        None if isinstance(made, ChildDecider) else made,
        decider=made if isinstance(made, ChildDecider) else None,
        anonymous=is_loopback(settings.host) or settings.allow_anonymous or settings.insecure_no_auth,
        rebind=settings.insecure_no_auth and not is_loopback(settings.host),
        on_fatal=on_fatal,
        on_open=on_open,
        documents=settings.has_documents,
        run_timeout=math.inf if settings.debug else settings.run_timeout,
        **common,
        **settings.model_dump(
            include={
                *("store", "late", "revision", "shrink_guard", "ttl"),
                *("expose_errors", "legacy_replace", "open_documents"),
            }
        ),
    )
