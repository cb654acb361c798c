"""`cfgsync fetch`: a node's whole entry point. Flags and exit codes are the contract of `node.md`."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, NoReturn, TypeVar

import msgspec
import typer
from typer.core import TyperCommand

from cfgsync_artifacts import DiskError
from cfgsync_core import (
    HOLD,
    InvalidRegistration,
    InvalidServerUrl,
    Lost,
    NodeRegistration,
    RegistrationPayload,
    ServerUrl,
)

from ..fetch import EXIT, Ending, failed, fetch
from ..outputs import ArtifactOutputMap, OutputDirectory
from ..own_address import own_address
from ..state import NodeState, default_directory
from .says import Over, Waiting, fail

T = TypeVar("T")

LIVE_HOLD: Final = 2.0  # s; at a terminal the reason is to be seen soon, and again when it changes
MAX_METADATA_FILE_BYTES: Final = 1024 * 1024


class _WithCommand(TyperCommand):
    """Keeps what follows the first `--`, whatever it looks like, as the command to start."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.obj = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


settings: Final[dict[str, Any]] = {"cls": _WithCommand, "options_metavar": "[OPTIONS] [-- COMMAND …]"}


def command(
    ctx: typer.Context,
    identifier: Annotated[
        str, typer.Option("--id", envvar="CFGSYNC_ID", help="This node's name.", show_default=False)
    ],
    server: Annotated[
        str, typer.Option("--server", envvar="CFGSYNC_SERVER", help="The server's URL.")
    ] = "http://127.0.0.1:4400",
    ip: Annotated[
        str,
        typer.Option(
            "--ip", envvar="CFGSYNC_IP", help="This node's address; auto: the one that routes to the server."
        ),
    ] = "auto",
    metadata: Annotated[
        str | None,
        typer.Option(
            "--metadata", envvar="CFGSYNC_METADATA", help="JSON for the materializer, or @FILE that holds it."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            envvar="CFGSYNC_OUT",
            help="Directory; the files appear below DIR/current, all in one step.",
        ),
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(
            "--route",
            metavar="PATH=TARGET",
            envvar="CFGSYNC_ROUTE",
            help="Send the file PATH to TARGET; repeat for each file. Each file is whole at any moment, but the set is"
            " not written in one step: run again to finish an interrupted one.",
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option("--wait", envvar="CFGSYNC_WAIT", metavar="SECONDS", min=0, help="How long to wait."),
    ] = 300.0,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            envvar="CFGSYNC_STATE",
            metavar="DIR",
            help="Where this node remembers its secret and what it saw.  [default: below $XDG_STATE_HOME/cfgsync]",
        ),
    ] = None,
    secret_file: Annotated[
        str | None,
        typer.Option(
            "--secret-file",
            envvar="CFGSYNC_SECRET_FILE",
            metavar="FILE",
            help="The node's secret, kept elsewhere.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", envvar="CFGSYNC_JSON", help="Print one JSON object at the end.")
    ] = False,
) -> None:
    """Register this node, wait for its files, write them, start a command.

    COMMAND replaces this process when every file is in place. Exit codes: 0 files in place, 2 usage, 3 not ready in
    time, 4 nothing for this name, 5 refused, 6 integrity (nothing was written), 7 no server in time, 8 disk.
    """
    start: list[str] = ctx.obj or []
    at = _parsed("--server", server, ServerUrl.parse)
    outputs = _outputs(ctx, out, route or [])
    payload = _payload(metadata)
    _parsed("--id", identifier, lambda text: NodeRegistration(text, "0.0.0.0"))
    if ip != "auto":
        _parsed("--ip", ip, lambda text: NodeRegistration(identifier, text))
    if not math.isfinite(wait):
        raise typer.BadParameter(f"{wait} is not a number of seconds", param_hint="--wait")
    waiting = Waiting()
    began = time.monotonic()
    try:
        node = NodeRegistration(identifier, own_address(at, wait, waiting) if ip == "auto" else ip, payload)
        ending = fetch(
            node,
            at,
            outputs,
            NodeState(
                state or default_directory(server, identifier), secret_file=secret_file, complain=_note
            ),
            wait=max(wait - (time.monotonic() - began), 0.001) if wait else 0.0,
            hold=LIVE_HOLD if waiting.live else HOLD,
            waiting=waiting,
            notice=_note,
        )
    except Lost as error:
        ending = failed(
            identifier, 7, f"no answer from the server after {wait:g} s: {error}", "is --server right?"
        )
    except DiskError as error:
        ending = failed(identifier, EXIT[DiskError], str(error), error.hint)
    finally:
        waiting.clear()
    _end(ending, start, json)


def _end(ending: Ending, start: list[str], json: bool) -> NoReturn:
    report = ending.report
    if json:
        print(msgspec.json.encode(report).decode(), flush=True)
    if report.exit:
        fail(report.exit, report.message, ending.hint)
    elif not json:
        of = f" of generation {report.generation.rpartition('.')[2]}" if report.generation else ""
        print(f"{report.identifier}: {report.message}{of}", file=sys.stderr, flush=True)
    if report.exit == 0 and start:
        become(start)
    raise typer.Exit(Over(report.exit))


def become(start: list[str]) -> NoReturn:
    """Replace this process with a command. Ends with 127 when there is none of that name, with 126 when it cannot run,
    as a shell does."""
    sys.stdout.flush()
    sys.stderr.flush()
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(
            ignored, signal.SIG_DFL
        )  # Python ignores these, and what is ignored stays so for the command
    try:
        os.execvp(start[0], start)
    except FileNotFoundError:
        code = fail(
            127, f"{start[0]}: command not found", "the files are in place; name a command that is in PATH"
        )
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        code = fail(126, f"{start[0]}: {why}", "the files are in place; name a program that may be run")
    raise typer.Exit(Over(code))


def _outputs(ctx: typer.Context, out: str | None, route: list[str]) -> OutputDirectory | ArtifactOutputMap:
    if out and route:
        # A flag beats the environment; two flags, or two variables, contradict each other.
        by_hand = {name for name in ("out", "route") if _is_flag(ctx, name)}
        if by_hand == {"out"}:
            route = []
        elif by_hand == {"route"}:
            out = None
    if bool(out) == bool(route):
        both = "both are given" if out else "neither is given"
        raise typer.BadParameter(f"{both}: give --out DIR, or --route PATH=TARGET for each file")
    if out:
        return OutputDirectory(out)
    routes = ArtifactOutputMap()
    for text in route:
        path, _, target = text.partition("=")
        if not path or not target:
            raise typer.BadParameter(f"{text!r} is not PATH=TARGET", param_hint="--route")
        if path in routes.routes:
            raise typer.BadParameter(f"{path!r} is routed twice", param_hint="--route")
        routes = routes.route(path, target)
    return routes


def _is_flag(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _payload(metadata: str | None) -> RegistrationPayload:
    if metadata is None:
        return RegistrationPayload()
    text = metadata
    if metadata.startswith("@"):
        try:
            with open(metadata[1:], encoding="utf-8") as file:
                text = file.read(MAX_METADATA_FILE_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise typer.BadParameter(f"{metadata[1:]}: {why}", param_hint="--metadata") from error
    return _parsed("--metadata", text, RegistrationPayload.from_json_text)


def _parsed(flag: str, text: str, parse: Callable[[str], T]) -> T:
    """`parse(text)`; what it does not take is a usage error of this flag."""
    try:
        return parse(text)
    except InvalidRegistration as error:
        raise typer.BadParameter(error.why, param_hint=flag) from error
    except InvalidServerUrl as error:
        raise typer.BadParameter(str(error), param_hint=flag) from error


def _note(sentence: str) -> None:
    print(f"note: {sentence}", file=sys.stderr, flush=True)
