"""`cfgsync status --wait-applied`: wait until every node has applied its files, else name the nodes that have not, and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

from cfgsync_core import FleetStatus
from cfgsync_core.text import plain
from cfgsync_core.wire import NodeBehind

from .fleet_table import number
from .messages import NoAnswer, WaitingLine, fail
from .server_client import NOT_OURS, ServerClient

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
NAMED: Final = 5


class Waited(msgspec.Struct, frozen=True):
    """The `--json` object. `behind` names the first nodes that have not applied their files, and why."""

    status: Literal["converged", "behind", "unreachable", "refused"]
    exit: int
    generation: str | None
    registered: int
    applied: int
    behind_count: int
    behind: tuple[NodeBehind, ...]
    message: str


class _No(NamedTuple):
    """No usable answer. `is_final`: asking again will not help."""

    status: Literal["unreachable", "refused"]
    code: int
    happened: str
    hint: str
    is_final: bool = False


def wait_until_applied(
    client: ServerClient,
    timeout: float,
    as_json: bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Ask until the fleet has converged (0), or `timeout` seconds are over: 1, 7 when the last try had no answer."""
    until, pause, waiting = clock() + timeout, FIRST_PAUSE, WaitingLine()
    shown = ""
    try:
        while True:
            last = _asked(client)
            left = until - clock()
            over = left <= 0 or (isinstance(last, _No) and last.is_final)
            if (isinstance(last, FleetStatus) and last.converged) or over:
                break
            why = _why(last)
            if not as_json and why != shown:
                waiting(why)
                shown = why
            sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_PAUSE)
    finally:
        waiting.clear()
    return _end(last, timeout, as_json)


def _asked(client: ServerClient) -> FleetStatus | _No:
    try:
        fleet = client.status("/status?limit=1", FleetStatus)
    except NoAnswer as error:
        status: Literal["unreachable", "refused"] = "refused" if error.code == 5 else "unreachable"
        return _No(status, 5 if error.code == 5 else 7, str(error), error.hint, not error.again)
    if fleet.converged is msgspec.UNSET:  # a server from before acknowledgements
        return _No(
            "unreachable", 7, f"{client.at}/status does not say which nodes have applied", NOT_OURS, True
        )
    return fleet


def _why(last: FleetStatus | _No) -> str:
    """What the command waits for, in one line."""
    if isinstance(last, _No):
        return last.happened
    if last.generation is None:
        return f"no generation yet: {plain(last.reason) or 'nobody has registered'}"
    if not last.behind_count:
        return plain(last.reason) or "nobody is registered"
    names = ", ".join(plain(node.identifier) for node in last.behind[:NAMED])
    more = last.behind_count - min(len(last.behind), NAMED)
    return f"{last.applied} of {last.registered} nodes, missing {names}" + (
        f" and {more} more" if more else ""
    )


def _end(last: FleetStatus | _No, timeout: float, as_json: bool) -> int:
    if isinstance(last, _No):
        if as_json:
            _print(Waited(last.status, last.code, None, 0, 0, 0, (), last.happened))
            return last.code
        return fail(last.code, last.happened, last.hint)
    code = 0 if last.converged else 1
    if last.converged:
        message = f"{last.applied} nodes have applied generation {number(last.generation)}"
    elif last.generation is None or not last.behind_count:
        message = f"not converged within {timeout:g} s: {_why(last)}"
    else:
        named = [f"{plain(n.identifier)} ({plain(n.reason)})" for n in last.behind[:NAMED]]
        if more := last.behind_count - len(named):
            named.append(f"{more} more")
        message = (
            f"{last.behind_count} of {last.registered} nodes have not applied generation {number(last.generation)}"
            f" within {timeout:g} s: {', '.join(named)}"
        )
    if as_json:
        _print(
            Waited(
                "converged" if last.converged else "behind",
                code,
                last.generation,
                last.registered,
                last.applied,
                last.behind_count,
                last.behind,
                message,
            )
        )
        return code
    if last.converged:
        print(message)
        return 0
    if not last.behind:
        return fail(1, message, "look at the fleet (cfgsync status), or wait longer (--timeout)")
    return fail(
        1,
        message,
        f"look at one (cfgsync status {plain(last.behind[0].identifier)}), or wait longer (--timeout);"
        " a client of the original acknowledges nothing",
    )


def _print(waited: Waited) -> None:
    print(msgspec.json.encode(waited).decode())
