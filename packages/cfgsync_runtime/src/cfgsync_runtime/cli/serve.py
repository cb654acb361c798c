"""`cfgsync serve`: a materializer, a bundle or a server file, until SIGTERM drains it."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from cfgsync_adapter import RegistrationSnapshotMaterializer
from cfgsync_core import BundleConfigSource, StoreRefused
from cfgsync_core.log_events import event
from cfgsync_core.server import Sign

from ..access.signatures import Signer
from ..compose.document_server import serving_documents
from ..compose.fleet_server import serving_snapshot
from ..compose.source_server import serving_source
from ..errors import InputError, MachineRefused
from ..listening import load_http_server, raise_file_limit
from ..materializer.account import Account
from ..materializer.child import ChildDecider
from ..materializer.loading import load_materializer
from ..process.dumpable import refuse_inspection
from ..process.garbage import collect_rarely, collection_paused
from ..process.lines import Lines
from ..process.logs import log_of_application, log_to_stderr, passing_on
from ..process.loop_faults import LoopFaults
from ..process.server_signals import server_signals
from ..settings.serve_settings import REPEATED, ServeSettings, flag_of
from ..settings.server_file import BundleServer
from ..settings.settings_reader import read_serve_settings
from .parts.messages import Over, fail, note
from .parts.reloads import Adopt, FileArtifacts, Reloads, bundle_source
from .parts.unfailing_stream import make_stdout_unfailing

if TYPE_CHECKING:
    from cfgsync_core import HttpServer

    from ..access.tls import ServerCertificate

OnFatal: TypeAlias = Callable[[BaseException], None]
Running: TypeAlias = Callable[[OnFatal], AbstractAsyncContextManager["HttpServer"]]

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

    Serves until SIGTERM or Ctrl-C; waiting nodes then reconnect. SIGHUP reads a bundle, server file or certificate again. Exit codes: 0 after SIGTERM, 130 after Ctrl-C, 1 the
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
    if not settings.debug:  # a debugger needs the real one, and to look into this process
        make_stdout_unfailing()
        refuse_inspection()
    terminal = _terminal()
    try:
        tls = _certificate(settings)
        running, adopt = _served(settings, lines, tls)
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
    from ..access.tls import ServerCertificate

    return ServerCertificate(settings.tls_cert, settings.tls_key)


def _served(
    settings: ServeSettings, lines: Lines, tls: ServerCertificate | None
) -> tuple[Running, Adopt | None]:
    """How a server of what the settings name is made, and how it takes new contents of its file. Raises `InputError`."""
    common: dict[str, Any] = settings.model_dump(
        include={"host", "port", "legacy_init_with_node", "title", "page_contents"}
    )
    common |= {"lacking": settings.lacking, "page": not settings.no_page}
    common |= {"admin_socket": settings.admin_socket or True}
    common |= {"tls": tls, "trusted_proxies": settings.trusted_proxy}
    server = settings.server
    if server is not None and not server.bundle.nodes:
        log.warning("there is no node in %s: every node gets 404", server.file, extra=event("empty_bundle"))
    if server is not None and settings.is_static:
        source = bundle_source(server)

        async def adopt(new: BundleServer) -> None:
            source.adopt(await asyncio.to_thread(bundle_source, new))

        known: dict[str, Any] = {
            "acknowledging": source,
            "details": source,
            "sign": _signing(settings, source),
        }
        if settings.requires_tokens:
            known |= {"store": settings.store, "anonymous": settings.allow_anonymous}
        return partial(_of_bundle, source, **known, **common), adopt
    common |= {"requires_tokens": settings.requires_tokens, "open_documents": settings.open_documents}
    if server is None and settings.materializer is None:
        for name in ("legacy_init_with_node", "title", "page", "page_contents"):
            del common[name]
        return partial(_of_documents, store=settings.store, **common), None
    common |= {
        "anonymous": settings.allow_anonymous or not settings.requires_tokens,
        "documents": settings.has_documents,
        "rebind": "no-auth" in settings.lacking,
        "run_timeout": math.inf if settings.debug else settings.run_timeout,
        **settings.model_dump(
            include={
                *("store", "late", "revision", "shrink_guard", "ttl"),
                *("expose_errors", "legacy_replace", "signing_key"),
            }
        ),
    }
    if server is not None:
        files = FileArtifacts(server)
        return partial(_running, files, on_open=files.on_open, **common), files.adopt
    assert settings.materializer is not None  # one of the two is set
    if not settings.debug:
        printed = passing_on(lines, settings.json_logs)
        account = None if settings.materializer_user is None else Account.of(settings.materializer_user)
        decider = ChildDecider(
            settings.materializer, printed=printed, json_logs=settings.json_logs, account=account
        )
        return partial(_deciding_elsewhere, decider, **common), None
    log_of_application(handler=lines)
    try:
        return partial(_running, load_materializer(settings.materializer), **common), None
    except InputError as error:
        if error.trace:
            lines.say(error.trace)
        raise


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
    kept = f", store {settings.store}" if has_store else ""
    what = "documents" if settings.server is None else settings.server.file
    what = settings.materializer or what
    print(f"serving {what} on {server.url}{kept}", flush=True)
    for url in server.urls[1:]:
        print(f"also on {url}", flush=True)


def _of_documents(on_fatal: OnFatal, **options: Any) -> AbstractAsyncContextManager[HttpServer]:
    return serving_documents(on_fatal=on_fatal, **options)


def _of_bundle(
    source: BundleConfigSource, on_fatal: OnFatal, **options: Any
) -> AbstractAsyncContextManager[HttpServer]:
    return serving_source(source, source, on_fatal=on_fatal, **options)


def _running(
    materializer: RegistrationSnapshotMaterializer, on_fatal: OnFatal, **options: Any
) -> AbstractAsyncContextManager[HttpServer]:
    return serving_snapshot(materializer, on_fatal=on_fatal, **options)


@asynccontextmanager
async def _deciding_elsewhere(
    decider: ChildDecider, on_fatal: OnFatal, **options: Any
) -> AsyncIterator[HttpServer]:
    async with decider, serving_snapshot(decider=decider, on_fatal=on_fatal, **options) as server:
        yield server


def _signing(settings: ServeSettings, bundle: BundleConfigSource) -> Sign:
    """The signatures in a bundle, or those of the server's own key."""
    if settings.signing_key is None:
        return bundle.signature
    signer = Signer(settings.signing_key)
    return lambda identifier, _, digest: signer(identifier, str(bundle.revision), digest)
