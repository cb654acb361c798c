"""The flags of `cfgsync fetch` that say what follows a change of the files."""

from __future__ import annotations

import signal

from cfgsync_core.wire import MAX_GROUP_NAME, is_group

from ....node.check import Check
from ....node.on_changes import GROUP, HEALTH_WITHIN, OnChange, OnChanges
from ....program.process_group import GRACE
from .arguments import FetchArguments
from .flags import UnusableFlag, duration


def on_changes(flags: FetchArguments) -> OnChanges:
    """What follows a change. Raises `UnusableFlag`."""
    how, reload, line = flags.on_change, flags.reload, flags.reload_command
    if how is not None and "on_change" in flags.by_hand:  # a flag beats a variable that says the opposite
        if how is not OnChange.SIGNAL and "reload" not in flags.by_hand:
            reload = None
        if how is not OnChange.COMMAND and "reload_command" not in flags.by_hand:
            line = None
    implied = [
        (name, kind)
        for name, given, kind in (
            ("--reload", reload, OnChange.SIGNAL),
            ("--reload-command", line, OnChange.COMMAND),
        )
        if given is not None
    ]
    if not flags.watch:
        given = [name for name, _ in implied]
        given += ["--on-change"] * (how is not None) + ["--splay"] * (flags.splay is not None)
        given += ["--on-drift"] * (flags.on_drift is not None) + ["--stop-timeout"] * (
            flags.stop_timeout is not None
        )
        given += [
            name
            for name, value in (
                ("--healthy-after", flags.healthy_after),
                ("--health", flags.health),
                ("--health-within", flags.health_within),
                ("--rollout-group", flags.rollout_group),
            )
            if value is not None
        ]
        if given:
            raise UnusableFlag("it is for --watch only", given[0])
    if flags.health_within is not None and flags.health is None:
        raise UnusableFlag("it is for --health COMMAND only", "--health-within")
    if flags.healthy_after is not None and not flags.start:
        raise UnusableFlag(
            "there is no command to live so long: add -- COMMAND, or use --health", "--healthy-after"
        )
    group = flags.rollout_group or GROUP
    if not is_group(group):
        raise UnusableFlag(
            f"{group[:80]!r} is not a letter or digit, then letters, digits, '.', '_' and '-', {MAX_GROUP_NAME} at most",
            "--rollout-group",
        )
    for name, kind in implied:
        if how not in (None, kind):
            raise UnusableFlag(f"it means --on-change {kind.value}, not {how.value}", name)
        how = kind
    number = None
    if how is OnChange.SIGNAL:
        number = signal.SIGHUP if reload is None else _signal_of(reload)
    if how in (OnChange.SIGNAL, OnChange.RESTART) and not flags.start:
        hint = "--reload" if reload is not None else "--on-change"
        raise UnusableFlag("there is no command to restart or signal: add -- COMMAND", hint)
    if how is OnChange.COMMAND and not line:
        raise UnusableFlag("there is no command line: add --reload-command COMMAND", "--on-change")
    return OnChanges(
        how or OnChange.RESTART,
        number,
        line or "",
        0.0 if flags.splay is None else duration("--splay", flags.splay),
        None if flags.check is None else Check(flags.check),
        flags.on_drift,
        GRACE if flags.stop_timeout is None else duration("--stop-timeout", flags.stop_timeout),
        None if flags.healthy_after is None else duration("--healthy-after", flags.healthy_after),
        flags.health or "",
        HEALTH_WITHIN if flags.health_within is None else duration("--health-within", flags.health_within),
        group,
    )


def _signal_of(text: str) -> signal.Signals:
    """`SIGHUP`, `hup` or `1`. Raises `UnusableFlag`."""
    name = text.strip().upper()
    try:
        if name.isascii() and name.isdigit():
            found = signal.Signals(int(name))
        else:
            found = signal.Signals["SIG" + name.removeprefix("SIG")]
    except (KeyError, ValueError):
        why = f"{text[:40]!r} is not the name or number of a signal"
        raise UnusableFlag(why, "--reload") from None
    if found in (signal.SIGKILL, signal.SIGSTOP):
        raise UnusableFlag(f"{found.name} is a signal that no program can catch", "--reload")
    return found
