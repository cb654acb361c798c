"""The rest of `cfgsync fetch --watch`, loaded only when the first files are in place."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable

from cfgsync_core import NEVER, AppliedFiles, NodeRegistration, RegistrationPayload, ServerUrl, Version

from ...node.fetch import Ending, Outputs
from ...node.own_address import own_address
from ...node.state import NodeState
from ...node.threads import in_thread
from ...node.watch import Watcher


def stay(
    node: NodeRegistration | tuple[str, RegistrationPayload],
    at: ServerUrl,
    outputs: Outputs,
    memory: NodeState,
    ending: Ending,
    start: list[str],
    reload: signal.Signals | None,
) -> int:
    """Keep the node's files current, from those of `ending` on, and return the exit code. `node` is a name and its metadata
    while the machine has no address yet."""
    _log_to_stderr()
    report = ending.report
    assert report.digest is not None  # files are in place
    version = Version.parse(report.generation) if report.generation else NEVER

    async def run() -> int:
        return await Watcher(
            node if isinstance(node, NodeRegistration) else _registration_of(*node, at),
            at,
            outputs,
            memory,
            AppliedFiles(version, str(report.digest)),
            identifier=report.identifier,
            degraded=report.status == "degraded",
            told=ending.acknowledged,
            start=start,
            reload=reload,
            say=_say,
        ).run()

    return asyncio.run(run())


def _registration_of(
    identifier: str, payload: RegistrationPayload, at: ServerUrl
) -> Callable[[], Awaitable[NodeRegistration]]:
    """The registration, once this machine has an address that routes to the server; a call before raises `Lost`."""
    found: list[NodeRegistration] = []

    async def registration() -> NodeRegistration:
        if not found:
            address = await in_thread(lambda: own_address(at, 0))
            found.append(NodeRegistration(identifier, address, payload))
        return found[0]

    return registration


def _log_to_stderr() -> None:
    """Print each change as one line, without level or time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("cfgsync")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _say(sentence: str) -> None:
    print(sentence + "\n", end="", file=sys.stderr, flush=True)
