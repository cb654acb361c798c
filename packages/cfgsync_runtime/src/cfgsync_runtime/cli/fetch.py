"""`cfgsync fetch`: a node's whole entry point, as typer reads it. Its flags and exit codes are in docs/reference/."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
import typer
from typer.core import TyperCommand

from .parts.fetch.arguments import FetchArguments
from .parts.fetch.flags import is_flag
from .parts.fetch.node_start import start_node
from .parts.plain_line import Field, fields


class _WithCommand(TyperCommand):
    """Keeps what follows the first `--`, whatever it looks like, as the command to start."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.obj = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


settings: Final[dict[str, Any]] = {"cls": _WithCommand, "options_metavar": "[OPTIONS] [-- COMMAND …]"}


def command_of(run: Callable[[FetchArguments], int]) -> Callable[..., None]:
    """The function that typer makes the command of: it gives `run` the arguments."""

    def command(ctx: typer.Context, **given: Any) -> None:
        """Register this node, wait for its files, write them, start a command.

        COMMAND replaces this process when every file is in place. With --watch it is started then, and stopped with this
        process, which ends when COMMAND does.

        \b
        Examples:
          cfgsync fetch --id node-1 --out out/node-1
          cfgsync fetch --id node-1 --route /config.yaml=/etc/app/config.yaml
          cfgsync fetch --id node-1 --out out -- cat out/current/config.yaml
          cfgsync fetch --id node-1 --out out --watch --reload SIGHUP -- app

        Exit codes: 0 files in place, 2 usage, 3 not ready in time, 4 nothing for this name, 5 refused, 6 integrity (nothing
        was written), 7 no server in time, 8 disk, 9 refused by --check, 130 after Ctrl-C; else those of COMMAND.
        """
        by_hand = frozenset(name for name in given if is_flag(ctx, name))
        given = {name: value for name, value in given.items() if value not in (None, [])}
        raise typer.Exit(run(FetchArguments(**given, start=ctx.obj or [], by_hand=by_hand)))

    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    defaults = {one.name: one.default for one in msgspec.structs.fields(FetchArguments)}
    parameters = [_parameter(field, defaults[field.name]) for field in fields(FetchArguments)]
    command.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    return command


def _parameter(field: Field, default: object) -> inspect.Parameter:
    """A flag in typer's words."""
    flag = field.flag
    must = default is msgspec.NODEFAULT
    option = typer.Option(
        field.option,
        metavar=flag.metavar,
        help=flag.help,
        min=flag.least,
        max=flag.most,
        show_default=not must,
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if must else default,
        annotation=Annotated[field.annotation, option],
    )


command = command_of(start_node)
