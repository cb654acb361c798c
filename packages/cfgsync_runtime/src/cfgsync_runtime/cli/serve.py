"""`cfgsync serve`: a materializer, a bundle or a server file, until SIGTERM drains it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from inspect import Parameter, signature
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
from ..settings.serve_settings import ServeSettings, flag_of, read_serve_settings
from ..settings.server_file import RegistrationServer, StaticServer
from .parts.messages import fail, note

if TYPE_CHECKING:
    from cfgsync_core import HttpServer

Served: TypeAlias = ChildDecider | MaterializedArtifacts | BundleConfigSource

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
    """Serve a materializer, a bundle or a server configuration.

    \b
    Examples:
      cfgsync serve app:MyMaterializer
      cfgsync serve app:MyMaterializer --port 0 --store memory:
      cfgsync serve --bundle bundle.yaml
      cfgsync serve --config server.yaml --json-logs

    Serves until SIGTERM or Ctrl-C; waiting nodes then reconnect. Exit codes: 0 after SIGTERM, 130 after Ctrl-C, 1 the
    machine refuses (port, store), 2 an argument is wrong. flag > environment > file > default.
    """
    flags |= {"materializer": materializer, "bundle": bundle, "config": config}
    try:
        code = serve(read_serve_settings(flags, say=note))
    except InputError as error:
        raise typer.Exit(fail(2, str(error), error.hint)) from error
    except (StoreRefused, MachineRefused) as error:
        raise typer.Exit(fail(1, str(error), error.hint)) from error
    raise typer.Exit(code)


def _options() -> Iterator[Parameter]:
    """The flags of the fields of `ServeSettings`. Their environment variables are read with the settings."""
    kinds: dict[str | None, type] = {"PORT": int, "SECONDS": float, "PERCENT": float, None: bool}
    for name, field in ServeSettings.model_fields.items():
        if field.description is not None:
            kind = kinds.get(field.title, str)
            names = [flag_of(name)] if kind is bool else []  # without a name, typer adds --no-<flag>
            option = typer.Option(*names, metavar=field.title, help=field.description, envvar=[])
            yield Parameter(
                name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
            )


_written = signature(command, eval_str=True)
command.__dict__["__signature__"] = _written.replace(
    parameters=[*list(_written.parameters.values())[:-1], *_options()]
)


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
    assert settings.materializer is not None  # one of the two is set
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
            )  # while the materializer's process starts
            # before the signal handlers: an application whose import hangs is ended like any program
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
            "%s: shutting down; waiting nodes will reconnect",
            stopped.result().name,
            extra=event("stopping", signal=stopped.result().name),
        )
    return 130 if stopped.result() == signal.SIGINT else 0


def _running(
    settings: ServeSettings, made: Served, on_fatal: Callable[[BaseException], None]
) -> AbstractAsyncContextManager[HttpServer]:
    common: dict[str, Any] = settings.model_dump(include={"host", "port", "legacy_init_with_node"})
    common |= {"lacking": settings.lacking, "page": not settings.no_page}
    common |= {"admin_socket": settings.admin_socket or True}
    if isinstance(made, BundleConfigSource):
        return serving_source(made, made, **common)
    return serving_snapshot(
        made if isinstance(made, MaterializedArtifacts) else None,
        decider=made if isinstance(made, ChildDecider) else None,
        anonymous=is_loopback(settings.host) or settings.allow_anonymous or settings.insecure_no_auth,
        rebind=settings.insecure_no_auth and not is_loopback(settings.host),
        on_fatal=on_fatal,
        **common,
        **settings.model_dump(
            include={
                *("store", "late", "revision", "run_timeout", "shrink_guard", "ttl"),
                *("expose_errors", "page_contents", "legacy_replace"),
            }
        ),
    )
