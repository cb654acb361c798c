"""The flags of `cfgsync fetch` that say what follows a change of the files."""

from __future__ import annotations

import math
import re
import signal
from contextlib import suppress
from typing import Annotated, Final, TypeAlias

import msgspec
import typer

from ...node.check import Check
from ...node.drift import OnDrift
from ...node.on_changes import OnChange, OnChanges
from ...program.process_group import GRACE
from .fetch_flags import is_flag

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")

OnChangeFlag: TypeAlias = Annotated[
    OnChange | None,
    typer.Option(
        "--on-change",
        metavar="restart|signal|command|nothing",
        help="How COMMAND learns of changed files.  [default: restart]",
    ),
]
ReloadFlag: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--reload",
        metavar="SIGNAL",
        help="Send COMMAND this signal (SIGHUP, 1) when files change, instead of restarting it.",
    ),
]
ReloadCommandFlag: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--reload-command",
        metavar="COMMAND",
        help="Run this shell line when files change, instead; also for a program that cfgsync does not start.",
    ),
]
CheckFlag: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--check",
        metavar="COMMAND",
        help="Run this shell line on new files first, in $CFGSYNC_STAGED; unless it exits with 0, the old files stay.",
    ),
]
SplayFlag: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--splay",
        metavar="DURATION",
        help="Wait a random part of this (30, 5m) before COMMAND is told, so that a fleet does not restart at once.",
    ),
]
OnDriftFlag: TypeAlias = Annotated[
    OnDrift | None,
    typer.Option(
        "--on-drift",
        metavar="repair|report",
        help="Files that were changed on this machine are restored, or only reported."
        "  [default: repair; report with --route]",
    ),
]
StopTimeoutFlag: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--stop-timeout",
        metavar="DURATION",
        help="At a restart, kill COMMAND so long after SIGTERM.  [default: 10]",
    ),
]


class ChangeFlags(msgspec.Struct, frozen=True):
    """The flags that say what follows a change of the files, as they were given."""

    on_change: OnChange | None = None
    reload: str | None = None
    reload_command: str | None = None
    check: str | None = None
    splay: str | None = None
    on_drift: OnDrift | None = None
    stop_timeout: str | None = None


def on_changes(ctx: typer.Context, flags: ChangeFlags, watch: bool, start: list[str]) -> OnChanges:
    """What follows a change. Raises `BadParameter`."""
    how, reload, line = flags.on_change, flags.reload, flags.reload_command
    if how is not None and is_flag(ctx, "on_change"):  # a flag beats a variable that says the opposite
        if how is not OnChange.SIGNAL and not is_flag(ctx, "reload"):
            reload = None
        if how is not OnChange.COMMAND and not is_flag(ctx, "reload_command"):
            line = None
    implied = [
        (name, kind)
        for name, given, kind in (
            ("--reload", reload, OnChange.SIGNAL),
            ("--reload-command", line, OnChange.COMMAND),
        )
        if given is not None
    ]
    if not watch:
        given = [name for name, _ in implied]
        given += ["--on-change"] * (how is not None) + ["--splay"] * (flags.splay is not None)
        given += ["--on-drift"] * (flags.on_drift is not None) + ["--stop-timeout"] * (
            flags.stop_timeout is not None
        )
        if given:
            raise typer.BadParameter("it is for --watch only", param_hint=given[0])
    for name, kind in implied:
        if how not in (None, kind):
            raise typer.BadParameter(f"it means --on-change {kind.value}, not {how.value}", param_hint=name)
        how = kind
    number = None
    if how is OnChange.SIGNAL:
        number = signal.SIGHUP if reload is None else _signal_of(reload)
    if how in (OnChange.SIGNAL, OnChange.RESTART) and not start:
        hint = "--reload" if reload is not None else "--on-change"
        raise typer.BadParameter("there is no command to tell: add -- COMMAND", param_hint=hint)
    if how is OnChange.COMMAND and not line:
        raise typer.BadParameter(
            "there is no command line: add --reload-command COMMAND", param_hint="--on-change"
        )
    return OnChanges(
        how or OnChange.RESTART,
        number,
        line or "",
        0.0 if flags.splay is None else duration("--splay", flags.splay),
        None if flags.check is None else Check(flags.check),
        flags.on_drift,
        GRACE if flags.stop_timeout is None else duration("--stop-timeout", flags.stop_timeout),
    )


def _signal_of(text: str) -> signal.Signals:
    """`SIGHUP`, `hup` or `1`. Raises `BadParameter`."""
    name = text.strip().upper()
    try:
        if name.isascii() and name.isdigit():
            found = signal.Signals(int(name))
        else:
            found = signal.Signals["SIG" + name.removeprefix("SIG")]
    except (KeyError, ValueError):
        why = f"{text[:40]!r} is not the name or number of a signal"
        raise typer.BadParameter(why, param_hint="--reload") from None
    if found in (signal.SIGKILL, signal.SIGSTOP):
        raise typer.BadParameter(f"{found.name} is a signal that no program can catch", param_hint="--reload")
    return found


def duration(flag: str, text: str) -> float:
    """Seconds: `90`, `250ms`, `1h30m`. Raises `BadParameter`."""
    words = text.strip()
    with suppress(ValueError):
        number = float(words)
        if math.isfinite(number) and number >= 0:
            return number
    parts = _DURATION.findall(words)
    if not parts or "".join(number + unit for number, unit in parts) != words:
        raise typer.BadParameter(f"{text[:40]!r} is no duration: 90, 250ms, 5m, 1h30m", param_hint=flag)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
