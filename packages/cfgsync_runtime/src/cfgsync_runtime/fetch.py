"""From a name to files on disk: secret, exchange, checks, plan, write, remember, in this order; nothing is half done.

What `cfgsync fetch` runs. Every ending is a `Report` with the exit code of `node.md`. Only the standard library's HTTP
is loaded: a node's command must start as fast as a shell loop (`speed.md`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import Final, Literal, Protocol

import msgspec

from cfgsync_artifacts import DiskError
from cfgsync_core import (
    HOLD,
    Current,
    Done,
    Exchange,
    Fetched,
    IntegrityError,
    Lost,
    MissingForGood,
    NodeRegistration,
    NotReadyInTime,
    Outcome,
    Pause,
    Refused,
    Rejected,
    Send,
    ServerUrl,
    Unreachable,
    Untrusted,
    Version,
    epoch_ms,
)

from .carrier import Carrier
from .outputs import Placeable, Plan, write
from .state import NodeState, Seen

EXIT: Final[dict[type, int]] = {
    Fetched: 0,
    Current: 0,
    Rejected: 2,
    NotReadyInTime: 3,
    MissingForGood: 4,
    Refused: 5,
    Untrusted: 6,
    IntegrityError: 6,
    Unreachable: 7,
    DiskError: 8,
}
"""The one table from an ending to the exit code of `cfgsync fetch`."""

REASON: Final = {
    2: "rejected",
    3: "not_ready",
    4: "missing_config",
    5: "refused",
    6: "integrity",
    7: "unreachable",
    8: "disk",
}
"""The word for an exit code in `--json`."""


class Report(msgspec.Struct, frozen=True):
    """How it ended, as `--json` prints it; `files` are the paths at which the files can be read."""

    status: Literal["ready", "degraded", "failed"]
    exit: int
    identifier: str
    generation: str | None
    digest: str | None
    files: tuple[str, ...]
    reason: str | None
    message: str


class Ending(msgspec.Struct, frozen=True):
    """A report, and what to do about it (`hint`, "" when there is nothing to do). `registered` when a server has taken
    the registration."""

    report: Report
    hint: str = ""
    registered: bool = False


class Outputs(Protocol):
    """Where files go, such as an `OutputDirectory`."""

    def plan(self, files: Iterable[Placeable], /) -> Plan:
        """Place every file. Raises `IntegrityError` when one has no place, or no legal one."""


def fetch(
    registration: NodeRegistration,
    server: ServerUrl,
    outputs: Outputs,
    state: NodeState | None,
    *,
    wait: float,
    hold: float = HOLD,
    waiting: Callable[[str], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
) -> Ending:
    """Get the files of `registration` and bring them into place within `wait` seconds.

    Without `state` the node has no secret and remembers nothing, as the original's.
    `waiting` is told, whenever it changes, why there are no files yet; `notice` what an operator should know although
    all went well.
    """
    identifier = registration.identifier
    registered = False
    try:
        exchange = Exchange(
            registration,
            now=time.monotonic(),
            wait=wait,
            secret=state.secret() if state is not None else None,
            seen=_newest(state.seen()) if state is not None else None,
            hold=hold,
            random=random.random,
        )
        with Carrier(server) as carrier:
            outcome = carry(exchange, carrier, waiting)
        registered = exchange.registered
        if not isinstance(outcome, Fetched):
            return failed(identifier, EXIT[type(outcome)], outcome.message, outcome.hint, registered)
        if outcome.notice:
            notice(outcome.notice)
        written = write(outputs.plan(outcome.payload.raw_files()))
    except IntegrityError as error:
        return failed(
            identifier,
            EXIT[IntegrityError],
            str(error),
            "nothing was written; mend what makes the files",
            registered,
        )
    except DiskError as error:
        return failed(identifier, EXIT[DiskError], str(error), error.hint, registered)
    if state is not None:
        _remember(state, outcome, notice)
    many = f"{len(written.paths)} file" + ("s" if len(written.paths) > 1 else "")
    said = f"{many} in place" + ("" if written.changed else " (unchanged)")
    return Ending(
        Report("ready", 0, identifier, outcome.generation, outcome.digest, written.paths, None, said),
        registered=registered,
    )


def carry(exchange: Exchange, carrier: Carrier, waiting: Callable[[str], None]) -> Outcome:
    """Drive an exchange to its end over a carrier."""
    told = ""
    while True:
        match exchange.next(time.monotonic()):
            case Done(outcome):
                return outcome
            case Pause(seconds):
                time.sleep(seconds)
            case Send(request):
                try:
                    answer = carrier.send(request)
                except Lost as error:
                    exchange.lost(time.monotonic(), str(error))
                else:
                    exchange.answered(time.monotonic(), answer)
        if exchange.waiting != told:
            told = exchange.waiting
            waiting(told)


def _newest(seen: Seen | None) -> Version | None:
    """What the node has seen, when it was a generation (a static source has none)."""
    if seen is None or not seen.epoch:
        return None
    try:
        epoch_ms(seen.epoch)
    except ValueError:
        return None
    return Version(seen.epoch, seen.number)


def _remember(state: NodeState, fetched: Fetched, notice: Callable[[str], None]) -> None:
    """Keep the payload and its generation. The files are in place: a disk that refuses this is said, and no more."""
    epoch, number = Version.parse(fetched.generation) if fetched.generation else ("", 0)
    try:
        state.keep(fetched.payload, Seen(epoch, number, fetched.digest, time.time()))
    except DiskError as error:
        notice(f"the files are in place, but cannot be remembered: {error}; {error.hint}")


def failed(identifier: str, code: int, message: str, hint: str, registered: bool = False) -> Ending:
    """The ending of a fetch that brought no files; `code` is its exit code."""
    return Ending(Report("failed", code, identifier, None, None, (), REASON[code], message), hint, registered)
