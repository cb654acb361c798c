"""`cfgsync status --wait-applied`: wait until every node has applied its files, else name the nodes that have not, and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from cfgsync_core import FleetStatus, Version
from cfgsync_core.text import both_ends, counted, plain
from cfgsync_core.wire import NodeBehind, NodeDrift

from .fleet_table import SHOWN, drifted, is_static, number
from .messages import NoAnswer, WaitingLine, fail
from .server_client import NOT_OURS, ServerClient

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
NAMED: Final = 5


Status = Literal["converged", "behind", "halted", "reverted", "held_back", "unreachable", "refused"]


class Waited(msgspec.Struct, frozen=True):
    """The `--json` object. `behind` names the first nodes that have not applied their files, and why; `drifted` the first on
    whose disks files were changed."""

    status: Status
    exit: int
    generation: str | None
    registered: int
    applied: int
    behind_count: int
    behind: tuple[NodeBehind, ...]
    message: str
    drifted: tuple[NodeDrift, ...] = ()


def wait_until_applied(
    client: ServerClient,
    timeout: float,
    as_json: bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Ask until the fleet has converged (0), or `timeout` seconds are over: 1, 7 when the last try had no answer. 1, too, when
    the generation that is waited for is taken back, and when a frozen one was made without what has changed since."""
    until, pause, waiting = clock() + timeout, FIRST_PAUSE, WaitingLine()
    shown = taken_back = ""
    newest: str | None = None
    try:
        while True:
            last = _fleet(client)
            if isinstance(last, FleetStatus):
                newest, taken_back = _followed(newest, last)
            left = until - clock()
            over = left <= 0 or (isinstance(last, NoAnswer) and not last.again)
            if over or (
                isinstance(last, FleetStatus) and (last.converged or taken_back or _is_for_good(last))
            ):
                break
            why = _why(last)
            if not as_json and why != shown:
                waiting(why)
                shown = why
            sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_PAUSE)
    finally:
        waiting.clear()
    return _end(last, timeout, as_json, taken_back)


def _followed(newest: str | None, fleet: FleetStatus) -> tuple[str | None, str]:
    """The newest generation that is waited for, and, once it is taken back, a sentence that says so."""
    rollout = fleet.rollout or None
    if rollout is None or not rollout.reverts:
        return fleet.generation or newest, ""
    if newest is None or Version.parse(newest).revision <= rollout.reverts:
        return newest, ""
    return newest, (
        f"generation {number(newest)} was taken back: generation {number(fleet.generation)} has the files of generation"
        f" {rollout.reverts} again"
    )


def _is_stuck(fleet: FleetStatus) -> bool:
    """The rollout is halted, and waiting longer changes nothing."""
    return fleet.rollout is not msgspec.UNSET and fleet.rollout.is_stuck


def _is_for_good(fleet: FleetStatus) -> bool:
    """Waiting longer changes nothing."""
    return bool(fleet.held_back) or _is_stuck(fleet)


def _fleet(client: ServerClient) -> FleetStatus | NoAnswer:
    try:
        fleet = client.status("/status?limit=1", FleetStatus)
    except NoAnswer as error:
        return error
    if fleet.converged is msgspec.UNSET:  # a server from before acknowledgements
        return NoAnswer(7, f"{client.at}/status does not say which nodes have applied", NOT_OURS)
    return fleet


def _why(last: FleetStatus | NoAnswer) -> str:
    """What the command waits for, in one line."""
    if isinstance(last, NoAnswer):
        return str(last)
    if last.generation is None and not is_static(last):
        return f"no generation yet: {plain(last.reason) or 'no node has registered'}"
    if not last.behind_count:
        return plain(last.reason) or "no node is registered"
    names = ", ".join(plain(node.identifier) for node in last.behind[:NAMED])
    more = last.behind_count - min(len(last.behind), NAMED)
    return f"{last.applied} of {counted(_nodes(last), 'node')}, missing {names}" + (
        f" and {more} more" if more else ""
    )


def _nodes(fleet: FleetStatus) -> int:
    """The nodes that are waited for; those of a bundle need not have registered."""
    return sum(fleet.counts.values()) if is_static(fleet) else fleet.registered


def _message(fleet: FleetStatus, timeout: float) -> str:
    what = "the files of the bundle" if is_static(fleet) else f"generation {number(fleet.generation)}"
    if fleet.converged:
        without = fleet.counts.get("no_files", 0)
        left_out = f"; {counted(without, 'node')} {_have(without)} no files from it" if without else ""
        changed = f"; changed on the node's disk: {drifted(fleet)}" if fleet.drifted else ""
        return f"{counted(fleet.applied, 'node')} {_have(fleet.applied)} applied {what}{left_out}{changed}"
    if fleet.rollout and _is_stuck(fleet):
        return f"the rollout of {plain(fleet.rollout.sentence, SHOWN)}"
    if fleet.held_back:
        return f"not converged: {plain(fleet.reason)}"
    if (fleet.generation is None and not is_static(fleet)) or not fleet.behind_count:
        return f"not converged within {timeout:g} s: {_why(fleet)}"
    named = [f"{plain(node.identifier)} ({both_ends(node.reason)})" for node in fleet.behind[:NAMED]]
    if more := fleet.behind_count - len(named):
        named.append(f"{more} more")
    return (
        f"{fleet.behind_count} of {counted(_nodes(fleet), 'node')} {_have(fleet.behind_count)} not applied {what}"
        f" within {timeout:g} s: {', '.join(named)}"
    )


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _end(last: FleetStatus | NoAnswer, timeout: float, as_json: bool, taken_back: str) -> int:
    hint = "look at the fleet (cfgsync status), or wait longer (--timeout)"
    if isinstance(last, NoAnswer):
        refused = last.code == 5
        waited = Waited(
            "refused" if refused else "unreachable", 5 if refused else 7, None, 0, 0, 0, (), str(last)
        )
        hint = last.hint
    else:
        status: Status = "converged" if last.converged else "halted" if _is_stuck(last) else "behind"
        if status == "behind" and last.held_back:
            status = "held_back"
        if taken_back:
            status = "reverted"
        waited = Waited(
            status,
            0 if status == "converged" else 1,
            last.generation,
            last.registered,
            last.applied,
            last.behind_count,
            last.behind,
            taken_back or _message(last, timeout),
            last.drifted or (),
        )
        if taken_back:
            hint = "cfgsync generation list shows it; the server's log says which nodes failed"
        elif waited.status == "halted":
            hint = "cfgsync rollout status shows it; then cfgsync rollout retry, resume or revert"
        elif waited.status == "held_back":
            hint = "waiting longer does not help; cfgsync generation rebuild takes it in"
        elif last.behind:
            hint = (
                f"look at a node (cfgsync status {plain(last.behind[0].identifier)}), or wait longer (--timeout);"
                " a client of the original acknowledges nothing"
            )
    if as_json:
        print(msgspec.json.encode(waited).decode())
    elif waited.exit:
        fail(waited.exit, waited.message, hint)
    else:
        print(waited.message)
    return waited.exit
