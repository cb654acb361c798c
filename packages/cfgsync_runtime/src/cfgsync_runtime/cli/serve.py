"""`cfgsync serve`: a materializer, a bundle or a server file, until SIGTERM drains it."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Parameter, signature
from typing import Annotated

import typer

from ..settings.serve_settings import REPEATED, ServeSettings, flag_of
from .parts.serve.server_run import run_server


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
    raise typer.Exit(run_server(flags | {"materializer": materializer, "bundle": bundle, "config": config}))


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
