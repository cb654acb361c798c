"""`cfgsync status --wait-applied`: wait until every node has applied what it is given, else name who has not, and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

from cfgsync_core import plain

from .fleet_table import ToldBehind, number
from .messages import NoAnswer, WaitingLine, fail
from .server_client import ServerClient

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
NAMED: Final = 5


class _Fleet(msgspec.Struct, frozen=True):
    """What of `/status` says how far everybody is; a server that says no `converged` is older than acknowledgements."""

    registered: int
    converged: bool
    applied: int = 0
    behind_count: int = 0
    behind: tuple[ToldBehind, ...] = ()
    generation: str | None = None
    reason: str = ""


class Waited(msgspec.Struct, frozen=True):
    """The `--json` object. `behind` are the first of those that have not applied what they are given, and why."""

    status: Literal["converged", "behind", "unreachable", "refused"]
    exit: int
    generation: str | None
    registered: int
    applied: int
    behind_count: int
    behind: tuple[ToldBehind, ...]
    message: str


class _No(NamedTuple):
    """No answer that counts. `is_final`: asking again will not help."""

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
            told = _asked(client)
            left = until - clock()
            over = left <= 0 or (isinstance(told, _No) and told.is_final)
            if (isinstance(told, _Fleet) and told.converged) or over:
                break
            why = _why(told)
            if not as_json and why != shown:
                waiting(why)
                shown = why
            sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_PAUSE)
    finally:
        waiting.clear()
    return _end(told, timeout, as_json)


def _asked(client: ServerClient) -> _Fleet | _No:
    try:
        return client.status("/status?limit=1", _Fleet)
    except NoAnswer as error:
        status: Literal["unreachable", "refused"] = "refused" if error.code == 5 else "unreachable"
        return _No(status, 5 if error.code == 5 else 7, str(error), error.hint, not error.again)


def _why(told: _Fleet | _No) -> str:
    """Who is waited for, in a line."""
    if isinstance(told, _No):
        return told.happened
    if told.generation is None:
        return f"no generation stands: {plain(told.reason) or 'nobody has registered'}"
    if not told.behind_count:
        return plain(told.reason) or "nobody is registered"
    names = ", ".join(plain(node.identifier) for node in told.behind[:NAMED])
    more = told.behind_count - min(len(told.behind), NAMED)
    return f"{told.applied} of {told.registered} nodes, missing {names}" + (
        f" and {more} more" if more else ""
    )


def _end(told: _Fleet | _No, timeout: float, as_json: bool) -> int:
    if isinstance(told, _No):
        if as_json:
            _print(Waited(told.status, told.code, None, 0, 0, 0, (), told.happened))
            return told.code
        return fail(told.code, told.happened, told.hint)
    code = 0 if told.converged else 1
    if told.converged:
        message = f"{told.applied} nodes have applied what generation {number(told.generation)} gives them"
    elif told.generation is None or not told.behind_count:
        message = f"not converged within {timeout:g} s: {_why(told)}"
    else:
        named = [f"{plain(n.identifier)} ({plain(n.reason)})" for n in told.behind[:NAMED]]
        if more := told.behind_count - len(named):
            named.append(f"{more} more")
        message = (
            f"{told.behind_count} of {told.registered} nodes have not applied generation {number(told.generation)}"
            f" within {timeout:g} s: {', '.join(named)}"
        )
    if as_json:
        _print(
            Waited(
                "converged" if told.converged else "behind",
                code,
                told.generation,
                told.registered,
                told.applied,
                told.behind_count,
                told.behind,
                message,
            )
        )
        return code
    if told.converged:
        print(message)
        return 0
    if not told.behind:
        return fail(1, message, "look at the fleet (cfgsync status), or wait longer (--timeout)")
    return fail(
        1,
        message,
        f"look at one (cfgsync status {plain(told.behind[0].identifier)}), or wait longer (--timeout);"
        " a client of the original acknowledges nothing",
    )


def _print(waited: Waited) -> None:
    print(msgspec.json.encode(waited).decode())
