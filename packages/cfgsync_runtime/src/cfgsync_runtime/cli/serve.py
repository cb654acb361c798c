"""`cfgsync serve`: a materializer, a bundle or a server file, until SIGTERM drains it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from cfgsync_adapter import MaterializedArtifacts
from cfgsync_core import BundleConfigSource, StoreRefused
from cfgsync_core.log_events import event

from ..access.insecure import is_loopback
from ..compose import load_http_server, raise_file_limit, serving_snapshot, serving_source, stop_signals
from ..errors import InputError, MachineRefused
from ..materializer.child import ChildDecider
from ..process.garbage import collect_rarely, collection_paused
from ..process.logs import log_to_stderr
from ..process.loop_faults import LoopFaults
from ..settings.serve_settings import ServeSettings, read_serve_settings
from ..settings.server_file import RegistrationServer, StaticServer
from .parts.messages import fail

if TYPE_CHECKING:
    from cfgsync_core import HttpServer

Served: TypeAlias = ChildDecider | MaterializedArtifacts | BundleConfigSource

log = logging.getLogger("cfgsync")


def command(
    materializer: Annotated[
        str | None, typer.Argument(metavar="[MODULE:CLASS]", help="The application's materializer.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(metavar="FILE", help="Serve the files of a bundle; nobody need register.")
    ] = None,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="A server file, as the original's.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", help="sqlite:FILE or memory:  [default: below $XDG_STATE_HOME/cfgsync]"),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The address to listen on.  [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="0 takes a free one.  [default: 4400]")
    ] = None,
    json_logs: Annotated[bool | None, typer.Option("--json-logs", help="Log JSON lines.")] = None,
    late: Annotated[
        str | None,
        typer.Option(
            metavar="follow|freeze",
            help="What becomes of nodes that come after a generation stands.  [default: follow]",
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The program's version: another one makes a new generation."),
    ] = None,
    run_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Deadline of one materializer run.  [default: 60]")
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="A node that is not heard of for so long leaves.  [default: nobody leaves by itself]",
        ),
    ] = None,
    shrink_guard: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            help="Refuse a result that leaves out over so much of the fleet; 0 is off.  [default: 50]",
        ),
    ] = None,
    allow_anonymous: Annotated[
        bool | None, typer.Option("--allow-anonymous", help="Off loopback: take nodes without a secret.")
    ] = None,
    insecure_no_tls: Annotated[
        bool | None, typer.Option("--insecure-no-tls", help="Off loopback: serve without TLS.")
    ] = None,
    insecure_no_auth: Annotated[
        bool | None,
        typer.Option(
            "--insecure-no-auth", help="Off loopback: anyone may join, and another secret re-binds."
        ),
    ] = None,
    legacy_init_with_node: Annotated[
        bool | None,
        typer.Option(
            "--legacy-init-with-node", help="Answer /init-with-node as /node, for the oldest clients."
        ),
    ] = None,
    no_page: Annotated[
        bool | None, typer.Option("--no-page", help="Do not serve the page of the fleet, GET /.")
    ] = None,
) -> None:
    """Serve a materializer, a bundle or a server configuration.

    \b
    Examples:
      cfgsync serve app:MyMaterializer
      cfgsync serve app:MyMaterializer --port 0 --store memory:
      cfgsync serve --bundle bundle.yaml
      cfgsync serve --config server.yaml --json-logs

    Until SIGTERM or Ctrl-C: who waits is told to come back. Exit codes: 0 after SIGTERM, 130 after Ctrl-C, 1 the machine
    refuses (port, store), 2 what it was given. flag > environment > file > default.
    """
    flags = dict(locals())
    try:
        settings = read_serve_settings(flags)
        code = serve(settings)
    except InputError as error:
        raise typer.Exit(fail(2, str(error), error.hint)) from error
    except (StoreRefused, MachineRefused) as error:
        raise typer.Exit(fail(1, str(error), error.hint)) from error
    raise typer.Exit(code)


def serve(settings: ServeSettings) -> int:
    """Serve until a signal comes, and return the exit code. Raises `InputError`, `StoreRefused`, `MachineRefused`."""
    made = _served(settings)
    log_to_stderr(settings.json_logs)
    raise_file_limit()
    return asyncio.run(_serve(settings, made))


def _served(settings: ServeSettings) -> Served:
    if isinstance(settings.server, StaticServer):
        return BundleConfigSource(settings.server.bundle, settings.server.file)
    if isinstance(settings.server, RegistrationServer):
        return MaterializedArtifacts.from_nodes(settings.server.nodes).with_shared(settings.server.shared)
    assert settings.materializer is not None  # settings hold one of the two
    return ChildDecider(settings.materializer)


async def _serve(settings: ServeSettings, made: Served) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(LoopFaults())
    broken: asyncio.Future[BaseException] = loop.create_future()

    def on_fatal(error: BaseException) -> None:
        if not broken.done():
            broken.set_result(error)

    async with AsyncExitStack() as stack:
        with collection_paused():
            stack.callback(
                asyncio.create_task(load_http_server()).cancel
            )  # beside the materializer's process
            # loaded before signals are ours: an application whose import hangs is ended like any program
            if isinstance(made, ChildDecider):
                await stack.enter_async_context(made)
            stopped = await stack.enter_async_context(stop_signals())
            server = await stack.enter_async_context(_running(settings, made, on_fatal))
        collect_rarely()
        kept = "" if isinstance(made, BundleConfigSource) else f", store {settings.store}"
        what = settings.materializer or getattr(settings.server, "file", "")
        print(f"serving {what} on {server.url}{kept}", flush=True)
        ends: list[asyncio.Future[Any]] = [stopped, broken]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if broken.done():
            log.critical(
                "the store has failed, and this server ends: %s", broken.result(), extra=event("store_failed")
            )
            return 1
        log.info(
            "%s: telling everybody who waits to come back",
            stopped.result().name,
            extra=event("stopping", signal=stopped.result().name),
        )
    return 130 if stopped.result() == signal.SIGINT else 0


def _running(
    settings: ServeSettings,
    made: Served,
    on_fatal: Callable[[BaseException], None],
) -> AbstractAsyncContextManager[HttpServer]:
    if isinstance(made, BundleConfigSource):
        return serving_source(
            made,
            made,
            host=settings.host,
            port=settings.port,
            lacking=settings.lacking,
            legacy_init_with_node=settings.legacy_init_with_node,
            page=not settings.no_page,
        )
    child = made if isinstance(made, ChildDecider) else None
    return serving_snapshot(
        None if isinstance(made, ChildDecider) else made,
        decider=child,
        host=settings.host,
        port=settings.port,
        store=settings.store,
        late=settings.late,
        revision=settings.revision,
        run_timeout=settings.run_timeout,
        shrink_guard=settings.shrink_guard,
        ttl=settings.ttl,
        anonymous=is_loopback(settings.host) or settings.allow_anonymous or settings.insecure_no_auth,
        rebind=settings.insecure_no_auth and not is_loopback(settings.host),
        lacking=settings.lacking,
        legacy_init_with_node=settings.legacy_init_with_node,
        page=not settings.no_page,
        on_fatal=on_fatal,
    )
