"""The rest of `cfgsync fetch --watch`, loaded only when the first files are in place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from cfgsync_artifacts import DiskError
from cfgsync_core import NEVER, AppliedFiles, NodeRegistration, RegistrationPayload, ServerUrl, Version
from cfgsync_core.node import Lost

from ....node.ending import Ending
from ....node.memory.state import NodeState
from ....node.memory.watcher_lock import WatcherLock
from ....node.network.own_address import own_address
from ....node.on_changes import OnChanges
from ....node.outputs import Planner
from ....node.trials.start import TurnAtStart, turn_after
from ....node.watch import Watcher
from ....process.dumpable import refuse_inspection
from ....process.lines import Lines
from ....process.threads import in_thread


class OwnRegistration:
    """What a watcher registers: its own flags, until a fetch by hand hands over others. The address is `fixed`, or the one
    of this machine that routes to the server, found anew at each call. `last` is what was registered before."""

    def __init__(
        self,
        identifier: str,
        payload: RegistrationPayload,
        at: ServerUrl,
        last: NodeRegistration | None,
        keeper: WatcherLock,
        fixed: str | None,
    ) -> None:
        self._identifier = identifier
        self._payload = payload
        self._at = at
        self._last = last
        self._keeper = keeper
        self._fixed = fixed
        self.say: Callable[[str], object] = lambda _: None

    async def __call__(self) -> NodeRegistration:
        """Raises `Lost` while no address routes to the server."""
        last = self._last
        given = await in_thread(self._keeper.registration)
        if last is not None and given is not None and given != last:
            self.say(f"{self._identifier}: a fetch by hand has changed what this node registers")
            self._payload, self._last = given.payload, given
            if given.ip != last.ip:
                self._fixed = given.ip
            return given
        address = await self._address()
        if last is None or address != last.ip:
            if last is not None:
                self.say(f"{self._identifier}: this machine's address is {address} now; it was {last.ip}")
            self._last = last = NodeRegistration(self._identifier, address, self._payload)
            with suppress(DiskError):
                self._keeper.note(last)
        return last

    async def _address(self) -> str:
        return await in_thread(lambda: own_address(self._at, 0)) if self._fixed is None else self._fixed

    async def moved(self) -> str:
        """What has happened to the address that is registered; `""` when it is still the one."""
        with suppress(Lost):
            address = await self._address()
            if self._last is not None and address != self._last.ip:
                return f"this machine's address has changed to {address}"
        return ""


def stay(
    node: OwnRegistration,
    at: ServerUrl,
    outputs: Planner,
    memory: NodeState,
    ending: Ending,
    start: list[str],
    after: OnChanges,
    told: str | None,
    join_token: str | None = None,
    turn: TurnAtStart | None = None,
) -> int:
    """Keep the node's files current, from those of `ending` on, and return the exit code. `told` is the digest of the
    files that another program was told of last; `join_token` is shown at each registration. `turn` is what the start found of
    an earlier life."""
    refuse_inspection()  # it holds the node's secret, and freed memory is not overwritten
    lines = Lines()
    _log_to(lines)
    node.say = lines.say
    report = ending.report
    assert report.digest is not None  # files are in place
    version = Version.parse(report.generation) if report.generation else NEVER
    turn = _turn_after(
        turn or TurnAtStart(after.group if after.takes_turns(bool(start)) else ""), memory, ending
    )

    async def run() -> int:
        return await Watcher(
            node,
            at,
            outputs,
            memory,
            AppliedFiles(version, str(report.digest)),
            identifier=report.identifier,
            degraded=report.status == "degraded",
            acknowledged=ending.acknowledged,
            told=told,
            turn=turn,
            join_token=join_token,
            start=start,
            on_changes=after,
            say=lines.say,
            moved=node.moved,
        ).run()

    try:
        return asyncio.run(run())
    finally:
        lines.end()


def _turn_after(turn: TurnAtStart, memory: NodeState, ending: Ending) -> TurnAtStart:
    with suppress(DiskError):
        if turn.group:
            return turn_after(turn, memory, str(ending.report.digest), ending.on_trial)
    return turn


def _log_to(lines: Lines) -> None:
    """Print each change as one line, without level or time."""
    logger = logging.getLogger("cfgsync")
    logger.handlers[:] = [lines]
    logger.setLevel(logging.INFO)
    logger.propagate = False
