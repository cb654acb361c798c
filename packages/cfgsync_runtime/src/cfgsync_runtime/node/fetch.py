"""`cfgsync fetch` as a function: secret, exchange, checks, plan, write, remember, in this order.

Every ending is a `Report` with an exit code (docs/reference/exit-codes.md). It uses the standard library's HTTP, because a
node's command must start as fast as a shell loop.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from cfgsync_artifacts import DiskError, Patience
from cfgsync_core import (
    Acknowledgement,
    Fetched,
    IntegrityError,
    NodeRegistration,
    Outcome,
    Refused,
    ServerUrl,
    Untrusted,
    Version,
)
from cfgsync_core.node import (
    HOLD,
    Current,
    Done,
    Exchange,
    Lost,
    NotSigned,
    Pause,
    Send,
    acknowledge_request,
    is_final,
)
from cfgsync_core.text import counted

from .check import Check, CheckRefused, checked_write
from .degraded_start import FAILED, LOADED, MAY_DEGRADE, ConfigStartupMode, age_of, usable
from .ending import EXIT, Ending, Report, failed
from .memory.accepted import newest_generation, remember
from .memory.rotation import rotated
from .memory.state import CachedPayload, NodeState
from .network.transport import HttpTransport
from .outputs import Planner, write

if TYPE_CHECKING:
    from .trials.start import TurnAtStart


def fetch(
    registration: NodeRegistration,
    server: ServerUrl,
    outputs: Planner,
    state: NodeState | None,
    *,
    wait: float,
    hold: float = HOLD,
    keepalive: int | None = None,
    mode: ConfigStartupMode = ConfigStartupMode.FAIL_CLOSED,
    max_stale: float | None = None,
    own: Callable[[], str] | None = None,
    waiting: Callable[[str], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
    check: Check | None = None,
    acknowledge: bool = True,
    join_token: str | None = None,
    rotate: bool = False,
    may_degrade: frozenset[int] = MAY_DEGRADE,
    registers: bool = True,
    reports: bool = True,
    turn: TurnAtStart | None = None,
) -> Ending:
    """Get the files of `registration` and install them within `wait` seconds. With `mode` DEGRADED, an ending with a code of
    `may_degrade` falls back to files that a server confirmed at most `max_stale` seconds ago.

    Without `state` the node has no secret, remembers nothing and acknowledges nothing, as the original's client.
    `own` gives this machine's address anew for each connection after the first (it may change); it may raise `Lost`.
    `waiting` gets the reason for waiting whenever it changes; `notice` gets what an operator should know after a success.
    New files must pass `check`. `keepalive`: the node stays, and will be heard of within so many seconds. Without `acknowledge` success is reported later, by a watching node.
    `join_token` is shown with the registration. `rotate`: the node's secret is replaced when the files are in place.
    Without `registers` or `reports`, another process of this node does that: nothing is registered, or acknowledged. `turn`
    is that of a watching node that takes turns: the server may leave it the files that it has.
    """
    identifier = registration.identifier
    patience = Patience(time.monotonic() + wait, waiting)
    try:
        secret = state.secret() if state is not None else None
        seen = state.seen() if state is not None else None
    except DiskError as error:
        return failed(identifier, EXIT[DiskError], str(error), error.hint)
    named = None if turn is None else turn.named
    exchange_with = partial(
        Exchange,
        registration,
        seen=newest_generation(seen),
        seen_digest=seen.digest if seen is not None else None,
        hold=hold if named is None else 0.0,
        known=named,
        keepalive=keepalive,
        join_token=join_token,
        registers=registers,
        verify=None if state is None else state.verify,
        turn=None if turn is None else turn.turn.header(),
        random=random.random,
    )
    until = time.monotonic() + wait
    exchange = exchange_with(now=time.monotonic(), wait=wait, secret=secret)
    with HttpTransport(server) as transport:
        outcome = drive(exchange, transport, waiting, own)
        if isinstance(outcome, Refused) and state is not None and _is_replaced(state, secret):
            secret = state.kept_secret()
            left = max(until - time.monotonic(), 1.0) if wait else 0.0
            exchange = exchange_with(now=time.monotonic(), wait=left, secret=secret)
            outcome = drive(exchange, transport, waiting, own)
        if isinstance(outcome, Fetched):
            ending = _install(
                identifier, outcome, outputs, state, exchange.registered, notice, patience, check, turn
            )
        elif isinstance(outcome, Current) and turn is not None and turn.placed is not None:
            ending = _kept(identifier, outcome, outputs, turn, turn.placed, exchange.registered)
        else:
            code = EXIT[type(outcome)]
            ending = failed(identifier, code, outcome.message, outcome.hint, exchange.registered)
        if rotate and state is not None and secret is not None and not ending.report.exit:
            secret = rotated(state, secret, exchange.registration, transport, keepalive, notice)
        later = (not acknowledge and not ending.report.exit) or ending.on_trial
        if state is not None and isinstance(outcome, Fetched | Untrusted) and reports and not later:
            ending = msgspec.structs.replace(
                ending, acknowledged=_acknowledge(transport, secret, outcome, ending, turn)
            )
    if mode is ConfigStartupMode.DEGRADED and ending.report.exit in may_degrade:
        return degraded(ending, outputs, state, max_stale)
    return ending


def _is_replaced(state: NodeState, secret: str | None) -> bool:
    """Whether another process of this node, with `--rotate-secret`, has put another secret on disk."""
    return state.kept_secret() not in (None, secret)


def degraded(cause: Ending, outputs: Planner, state: NodeState | None, max_stale: float | None) -> Ending:
    """The ending of a node that got no files because of `cause` and may use its cache. Without a usable cache nothing is
    written."""
    identifier = cause.report.identifier
    try:
        cached, why = usable(state, max_stale)
        if cached is None:
            report = msgspec.structs.replace(
                cause.report, reason=FAILED, message=f"{cause.report.message}; and {why}"
            )
            return Ending(report, cause.hint, cause.registered)
        written = write(outputs.plan(cached.payload.raw_files()))
    except (IntegrityError, DiskError) as error:
        return _not_installed(identifier, error, cause.registered)
    generation = str(Version(cached.epoch, cached.number)) if cached.epoch else None
    age = age_of(cached)
    ago = "at a time that this machine's clock has not reached" if age is None else f"{age:.0f} s ago"
    said = (
        f"degraded: {counted(len(written.paths), 'file')} in place from the cache, which a server confirmed {ago};"
        f" {cause.report.message}"
    )
    report = Report("degraded", 0, identifier, generation, cached.payload.digest, written.paths, LOADED, said)
    return Ending(report, registered=cause.registered)


def _install(
    identifier: str,
    fetched: Fetched,
    outputs: Planner,
    state: NodeState | None,
    registered: bool,
    notice: Callable[[str], None],
    patience: Patience,
    check: Check | None,
    turn: TurnAtStart | None,
) -> Ending:
    """Plan, check, write and remember the files."""
    if fetched.notice:
        notice(fetched.notice)
    trials = None
    if turn is not None and state is not None:
        from .trials.trials import Trials  # a fetch without turns does not load it

        trials = Trials(turn, outputs, state)
    try:
        if trials is not None:
            trials.begin(fetched)
        written = checked_write(outputs, tuple(fetched.payload.raw_files()), check, patience)
    except (IntegrityError, DiskError, CheckRefused) as error:
        if trials is not None:
            with suppress(DiskError):
                trials.abandon()
        return _not_installed(identifier, error, registered)
    for note in written.notes:
        notice(note)
    on_trial = trials is not None and trials.is_on
    if state is not None and not on_trial:
        remember(state, fetched, notice)
        if trials is not None:
            with suppress(DiskError):
                trials.settle(fetched)
    said = f"{counted(len(written.paths), 'file')} in place" + ("" if written.changed else " (unchanged)")
    report = Report("ready", 0, identifier, fetched.generation, fetched.digest, written.paths, None, said)
    return Ending(report, registered=registered, on_trial=on_trial)


def _kept(
    identifier: str,
    outcome: Current,
    outputs: Planner,
    turn: TurnAtStart,
    placed: CachedPayload,
    registered: bool,
) -> Ending:
    """The server leaves this node the files that it has."""
    from .trials.start import generation_of

    paths = outputs.plan(placed.payload.raw_files()).paths
    is_named = turn.named == placed.payload.digest
    generation = (outcome.generation if is_named else None) or generation_of(placed)
    said = f"{counted(len(paths), 'file')} in place (unchanged)"
    report = Report("ready", 0, identifier, generation, placed.payload.digest, paths, None, said)
    return Ending(report, registered=registered, on_trial=turn.on_trial)


def _not_installed(
    identifier: str, error: IntegrityError | DiskError | CheckRefused, registered: bool
) -> Ending:
    if isinstance(error, CheckRefused):
        ending = failed(identifier, EXIT[CheckRefused], str(error), error.hint, registered)
        return msgspec.structs.replace(ending, for_others=error.for_others)
    if isinstance(error, DiskError):
        return failed(identifier, EXIT[DiskError], str(error), error.hint, registered)
    do = "correct the materializer or the bundle that makes the files"
    hint = f"nothing was written; {error.hint if isinstance(error, NotSigned) else do}"
    return failed(identifier, EXIT[IntegrityError], str(error), hint, registered)


def _acknowledge(
    transport: HttpTransport,
    secret: str | None,
    outcome: Fetched | Untrusted,
    ending: Ending,
    turn: TurnAtStart | None,
) -> bool:
    """Acknowledge the files once, over the open connection, just before the program starts (docs/adr/0011). The answer
    changes nothing. False when a watching node has to acknowledge it again."""
    report = ending.report
    failure = (ending.for_others or report.message) if report.exit else None
    digest = outcome.to_acknowledge if isinstance(outcome, Fetched) else outcome.digest
    group = None if turn is None else turn.group
    words = Acknowledgement.of(report.identifier, outcome.generation, digest, failure, group=group)
    if words is None:
        return True
    try:
        return is_final(transport.send(acknowledge_request(words, secret)).status)
    except Lost:
        return False


def drive(
    exchange: Exchange,
    transport: HttpTransport,
    waiting: Callable[[str], None],
    own: Callable[[], str] | None = None,
) -> Outcome:
    """Run an exchange to its end over a transport."""
    shown = ""
    while True:
        match exchange.next(time.monotonic()):
            case Done(outcome):
                return outcome
            case Pause(seconds):
                time.sleep(seconds)
            case Send(request):
                try:
                    answer = transport.send(request)
                except Lost as error:
                    exchange.lost(time.monotonic(), str(error), error.hint)
                    if own is not None:
                        with suppress(Lost):
                            exchange.moved(own())
                else:
                    exchange.answered(time.monotonic(), answer)
        if exchange.waiting != shown:
            shown = exchange.waiting
            waiting(shown)
