"""One `cfgsync fetch`, from its arguments to its exit code or its command. ADR 0028 says why typer is not loaded here."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import msgspec

from cfgsync_artifacts import DiskError, locked_directory
from cfgsync_core import NodeRegistration
from cfgsync_core.node import HOLD, KEEPALIVE_SECONDS, USE_TLS, Lost, Verify
from cfgsync_core.text import as_unicode, cause

from ....node.degraded_start import MAY_DEGRADE, WATCHER_MAY_DEGRADE, ConfigStartupMode
from ....node.ending import EXIT, Ending, failed
from ....node.fetch import degraded, fetch
from ....node.memory.state import NodeState, told_before
from ....node.memory.state_directory import state_directory
from ....node.memory.watcher_lock import Beside, WatcherLock, watcher_beside, watching
from ....node.network.own_address import own_address
from ....node.on_changes import OnChange
from ....node.outputs import OutputDirectory
from ....program.environment import for_programs
from ..messages import Over, WaitingLine, fail, note
from ..tokens.sent_token import token_for, use_tls
from ..unfailing_stream import make_stdout_unfailing
from .arguments import FetchArguments
from .change_flags import on_changes
from .flags import (
    outputs,
    parsed,
    payload,
    refuse_missing_secret,
    refuse_one_directory,
    refuse_unreachable,
    say_whether_verified,
    server_of,
    stale_of,
    wait_of,
)
from .places import command_refused, owned, refuse_places, shown

if TYPE_CHECKING:
    from ....node.trials.start import TurnAtStart

LIVE_HOLD: Final = 2.0  # s; a terminal shows the reason soon, and again when it changes


def start_node(flags: FetchArguments) -> int:
    """The exit code; but a command replaces this process. Raises `InputError` for a flag that cannot be used."""
    identifier, ip, start = flags.identifier, flags.ip, flags.start
    at = server_of(flags)
    make_stdout_unfailing()
    places = owned(outputs(flags), flags.chown, flags.keep)
    refuse_places(places)
    if start and (code := command_refused(start, places)):
        return Over(code)
    registered = payload(flags.metadata)
    parsed("--id", identifier, lambda text: NodeRegistration(text, "0.0.0.0"))
    if ip != "auto":
        parsed("--ip", ip, lambda text: NodeRegistration(identifier, text))
        refuse_unreachable(ip)
    within = wait_of(flags.wait, flags.startup_mode)
    stale = stale_of(flags)
    join_token = token_for(at, flags.token_file)
    after = on_changes(flags)
    fixed = None if ip == "auto" else ip
    told: str | None = None
    if flags.watch and flags.state is not None:
        refuse_one_directory(flags.state, places)
    refuse_missing_secret(flags.secret_file)
    say_whether_verified(flags.verify_key)
    waiting = WaitingLine()
    if waiting.live:
        waiting(f"asking {at}")
    began = time.monotonic()
    node: NodeRegistration | None = None
    turn: TurnAtStart | None = None
    with ExitStack() as alone:
        try:
            if flags.watch and isinstance(places, OutputDirectory):
                lock = alone.enter_context(locked_directory(places.directory))
                places = msgspec.structs.replace(places, lock=lock)
            memory = NodeState(
                flags.state or state_directory(flags.server, identifier, note),
                identifier,
                secret_file=flags.secret_file,
                complain=note,
            )
            memory.verify = _verifier(flags.verify_key, memory)
            keeper = WatcherLock(memory.directory, shown(places), checks=after.check is not None)
            if flags.watch:
                _keep(alone.enter_context(watching(keeper)), identifier)
            if flags.watch and after.how is OnChange.COMMAND:
                told = told_before(memory)
            beside = None if flags.watch else watcher_beside(memory.directory, identifier)
            try:
                node = NodeRegistration(
                    identifier, own_address(at, within, waiting) if fixed is None else fixed, registered
                )
            except Lost as error:
                message = f"no answer from the server after {within:g} s: {error}"
                ending = failed(identifier, 7, message, "is --server right?")
                if flags.startup_mode is ConfigStartupMode.DEGRADED:
                    ending = degraded(ending, places, memory, stale)
            else:
                with suppress(DiskError):  # a fetch by hand then does not see what is registered
                    keeper.note(node)
                node, registers = (node, True) if beside is None else _beside(beside, fixed, node)
                if beside is not None and beside.checks and after.check is None:
                    note(
                        f"the watcher of {identifier} checks new files, and this fetch does not: give it --check too"
                    )
                if flags.watch and after.takes_turns(bool(start)) and keeper.is_taken:
                    from ....node.trials.start import turn_at_start  # a fetch without turns does not load it

                    turn = turn_at_start(
                        memory, places, after.group, is_unchanged=keeper.before == node, told=told
                    )
                ending = fetch(
                    node,
                    at,
                    places,
                    memory,
                    wait=max(within - (time.monotonic() - began), 0.001) if within else 0.0,
                    hold=LIVE_HOLD if waiting.live else HOLD,
                    keepalive=KEEPALIVE_SECONDS if flags.watch or beside is not None else None,
                    mode=flags.startup_mode,
                    max_stale=stale,
                    own=(lambda: own_address(at, 0)) if fixed is None and beside is None else None,
                    waiting=waiting,
                    notice=note,
                    check=after.check,
                    acknowledge=told is None,
                    join_token=join_token,
                    rotate=flags.rotate_secret,
                    may_degrade=WATCHER_MAY_DEGRADE if flags.watch else MAY_DEGRADE,
                    registers=registers,
                    reports=beside is None,
                    turn=turn,
                )
        except DiskError as error:
            ending = failed(identifier, EXIT[DiskError], str(error), error.hint)
        finally:
            waiting.clear()
        _print(ending, flags.json)
        if ending.report.exit:
            hint = use_tls(at, join_token) if ending.hint == USE_TLS else ending.hint
            return Over(fail(ending.report.exit, ending.report.message, hint))
        if flags.watch:
            from .watching import OwnRegistration, stay  # loaded when the files are in place

            own = OwnRegistration(identifier, registered, at, node, keeper, fixed)
            return Over(stay(own, at, places, memory, ending, start, after, told, join_token, turn))
    return Over(become(start) if start else 0)


def _keep(keeper: WatcherLock, identifier: str) -> None:
    """Take the watcher's lock. A watcher without it works; only a fetch by hand beside it cannot know of it."""
    try:
        if not keeper.take():
            note(f"another watcher uses the state directory of {identifier} too: both report for it")
    except DiskError as error:
        note(f"a fetch by hand beside this watcher cannot know of it: {error}; {error.hint}")


def _beside(watcher: Beside, fixed: str | None, node: NodeRegistration) -> tuple[NodeRegistration, bool]:
    """What a fetch beside a watcher asks for, and whether it registers that."""
    the_watcher = f"the watcher of {node.identifier}{f' ({watcher.places})' if watcher.places else ''}"
    changed = watcher.changes(fixed, node)
    if not changed:
        note(f"{the_watcher} registers and reports for it; this fetch only writes files")
        return node, False
    node = watcher.merged(fixed, node)
    watcher.hand_over(node)
    note(
        f"{the_watcher} reports for it; {' and '.join(changed)} of this fetch changed its registration, and the watcher keeps"
        " the change until it starts again"
    )
    return node, True


def _verifier(keys: list[str] | None, memory: NodeState) -> Verify | None:
    """The check of signatures, None without keys. Raises `InputError`; `DiskError`."""
    if not keys:
        return None
    from ....access.signatures import Verifier  # only a node with keys loads it

    seen = memory.seen()
    return Verifier(keys, 0 if seen is None or seen.epoch else seen.number)


def _print(ending: Ending, json: bool) -> None:
    """Print how it ended; what a failure is called comes after it."""
    report = ending.report
    if json:
        files = tuple(map(as_unicode, report.files))
        words = msgspec.structs.replace(report, files=files, message=as_unicode(report.message))
        print(msgspec.json.encode(words).decode(), flush=True)
    if report.status == "degraded":
        print(f"warning: {report.identifier}: {report.message}", file=sys.stderr, flush=True)
    elif not json and not report.exit:
        of = f" of generation {report.generation.rpartition('.')[2]}" if report.generation else ""
        print(f"{report.identifier}: {report.message}{of}", file=sys.stderr, flush=True)


def become(start: list[str]) -> int:
    """Replace this process with a command. As a shell does, return 127 when it is not found, and 126 when it cannot run."""
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
        return fail(
            127, f"{start[0]}: command not found", "the files are in place; name a command that is in PATH"
        )
    except (OSError, ValueError) as error:
        why = cause(error)
        return fail(126, f"{start[0]}: {why}", "the files are in place; name a program that may be run")
