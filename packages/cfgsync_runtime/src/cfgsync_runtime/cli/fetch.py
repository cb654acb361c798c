"""`cfgsync fetch`: a node's whole entry point. Its flags and exit codes are in docs/reference/."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from typing import Annotated, Any, Final, NoReturn

import msgspec
import typer
from typer.core import TyperCommand

from cfgsync_artifacts import DiskError, locked_directory
from cfgsync_core import NodeRegistration, ServerUrl
from cfgsync_core.node import HOLD, Lost
from cfgsync_core.text import as_unicode, cause

from ..node.degraded_start import ConfigStartupMode
from ..node.fetch import EXIT, Ending, degraded, failed, fetch
from ..node.network.own_address import own_address
from ..node.on_changes import OnChange
from ..node.outputs import OutputDirectory
from ..node.state import NodeState, told_before
from ..node.state_directory import state_directory
from ..program.environment import for_programs
from .parts.change_flags import (
    ChangeFlags,
    CheckFlag,
    OnChangeFlag,
    OnDriftFlag,
    ReloadCommandFlag,
    ReloadFlag,
    SplayFlag,
    StopTimeoutFlag,
    on_changes,
)
from .parts.fetch_flags import (
    outputs,
    parsed,
    payload,
    refuse_one_directory,
    refuse_unreachable,
    stale_of,
    wait_of,
)
from .parts.fetch_places import Chown, Keep, owned, refuse_command, refuse_places
from .parts.messages import Over, WaitingLine, fail, note
from .parts.unfailing_stream import make_stdout_unfailing

LIVE_HOLD: Final = 2.0  # s; a terminal shows the reason soon, and again when it changes


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
        str, typer.Option("--id", metavar="ID", help="This node's name.", show_default=False)
    ],
    server: Annotated[str, typer.Option(metavar="URL", help="The server's URL.")] = "http://127.0.0.1:4400",
    ip: Annotated[
        str, typer.Option(metavar="IP", help="This node's address; auto: the one that routes to the server.")
    ] = "auto",
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON", help="JSON for the materializer, or @FILE that holds it.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Directory; the files appear below DIR/current, all in one step."),
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=TARGET",
            help="Send the file PATH to TARGET; repeat for each file. Each file is whole at any moment, but the set is"
            " not written in one step: run again to finish an interrupted one.",
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0, help="How long to wait for files.  [default: 300, or 5]"),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Where this node remembers its secret and what it saw.  [default: below $XDG_STATE_HOME/cfgsync]",
        ),
    ] = None,
    secret_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="The node's secret, kept elsewhere.")
    ] = None,
    startup_mode: Annotated[
        ConfigStartupMode,
        typer.Option(
            metavar="fail-closed|degraded",
            help="degraded: without an answer in time (5 s if --wait is not given), start with the last good files.",
        ),
    ] = ConfigStartupMode.FAIL_CLOSED,
    max_stale: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0, help="How long ago a server may have confirmed those files."),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Stay: write the files again whenever they change, and restart COMMAND."
        ),
    ] = False,
    on_change: OnChangeFlag = None,
    reload: ReloadFlag = None,
    reload_command: ReloadCommandFlag = None,
    check: CheckFlag = None,
    splay: SplayFlag = None,
    on_drift: OnDriftFlag = None,
    stop_timeout: StopTimeoutFlag = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    chown: Chown = None,
    keep: Keep = None,
) -> None:
    """Register this node, wait for its files, write them, start a command.

    COMMAND replaces this process when every file is in place; with --watch it is started then, ends with this process,
    and its end is the end.

    \b
    Examples:
      cfgsync fetch --id node-1 --out out/node-1
      cfgsync fetch --id node-1 --route /config.yaml=/etc/app/config.yaml
      cfgsync fetch --id node-1 --out out -- cat out/current/config.yaml
      cfgsync fetch --id node-1 --out out --watch --reload SIGHUP -- app

    Exit codes: 0 files in place, 2 usage, 3 not ready in time, 4 nothing for this name, 5 refused, 6 integrity (nothing
    was written), 7 no server in time, 8 disk, 9 refused by --check, 130 after Ctrl-C; else those of COMMAND.
    """
    start: list[str] = ctx.obj or []
    at = parsed("--server", server, ServerUrl.parse)
    make_stdout_unfailing()
    places = owned(outputs(ctx, out, route or []), chown, keep)
    refuse_places(places)
    if start:
        refuse_command(start, places)
    registered = payload(metadata)
    parsed("--id", identifier, lambda text: NodeRegistration(text, "0.0.0.0"))
    if ip != "auto":
        parsed("--ip", ip, lambda text: NodeRegistration(identifier, text))
        refuse_unreachable(ip)
    within = wait_of(wait, startup_mode)
    stale = stale_of(ctx, max_stale, startup_mode)
    flags = ChangeFlags(on_change, reload, reload_command, check, splay, on_drift, stop_timeout)
    after = on_changes(ctx, flags, watch, start)
    told: str | None = None
    if watch and state is not None:
        refuse_one_directory(state, places)
    waiting = WaitingLine()
    if waiting.live:
        waiting(f"asking {at}")
    began = time.monotonic()
    node: NodeRegistration | None = None
    with ExitStack() as alone:
        try:
            if watch and isinstance(places, OutputDirectory):
                lock = alone.enter_context(locked_directory(places.directory))
                places = msgspec.structs.replace(places, lock=lock)
            memory = NodeState(
                state or state_directory(server, identifier, note),
                identifier,
                secret_file=secret_file,
                complain=note,
            )
            if watch and after.how is OnChange.COMMAND:
                told = told_before(memory)
            try:
                node = NodeRegistration(
                    identifier, own_address(at, within, waiting) if ip == "auto" else ip, registered
                )
            except Lost as error:
                message = f"no answer from the server after {within:g} s: {error}"
                ending = failed(identifier, 7, message, "is --server right?")
                if startup_mode is ConfigStartupMode.DEGRADED:
                    ending = degraded(ending, places, memory, stale)
            else:
                ending = fetch(
                    node,
                    at,
                    places,
                    memory,
                    wait=max(within - (time.monotonic() - began), 0.001) if within else 0.0,
                    hold=LIVE_HOLD if waiting.live else HOLD,
                    mode=startup_mode,
                    max_stale=stale,
                    own=(lambda: own_address(at, 0)) if ip == "auto" else None,
                    waiting=waiting,
                    notice=note,
                    check=after.check,
                    acknowledge=told is None,
                )
        except DiskError as error:
            ending = failed(identifier, EXIT[DiskError], str(error), error.hint)
        finally:
            waiting.clear()
        _print(ending, json)
        if watch:
            from .parts.fetch_watch import OwnRegistration, stay  # loaded when the files are in place

            who = OwnRegistration(identifier, registered, at, node) if ip == "auto" or node is None else node
            code = stay(who, at, places, memory, ending, start, after, told)
            raise typer.Exit(Over(code))
    if start:
        become(start)
    raise typer.Exit(Over(0))


def _print(ending: Ending, json: bool) -> None:
    """Print how it ended; without files, end the process."""
    report = ending.report
    if json:
        files = tuple(map(as_unicode, report.files))
        words = msgspec.structs.replace(report, files=files, message=as_unicode(report.message))
        print(msgspec.json.encode(words).decode(), flush=True)
    if report.exit:
        raise typer.Exit(Over(fail(report.exit, report.message, ending.hint)))
    if report.status == "degraded":
        print(f"warning: {report.identifier}: {report.message}", file=sys.stderr, flush=True)
    elif not json:
        of = f" of generation {report.generation.rpartition('.')[2]}" if report.generation else ""
        print(f"{report.identifier}: {report.message}{of}", file=sys.stderr, flush=True)


def become(start: list[str]) -> NoReturn:
    """Replace this process with a command. As a shell does, exit 127 when it is not found, and 126 when it cannot run."""
    sys.stdout.flush()
    sys.stderr.flush()
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these; the command would inherit that
        signal.signal(ignored, signal.SIG_DFL)
    try:
        try:
            os.execvpe(start[0], start, for_programs())
        finally:  # it has not been replaced, and lives on to say so
            for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(ignored, signal.SIG_IGN)
    except FileNotFoundError:
        code = fail(
            127, f"{start[0]}: command not found", "the files are in place; name a command that is in PATH"
        )
    except (OSError, ValueError) as error:
        why = cause(error)
        code = fail(126, f"{start[0]}: {why}", "the files are in place; name a program that may be run")
    raise typer.Exit(Over(code))
