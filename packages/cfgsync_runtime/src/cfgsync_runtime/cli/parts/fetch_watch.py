"""The rest of `cfgsync fetch --watch`, loaded only when the first files are in place."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

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
    """Keep the node in step from the files of `ending` on; the exit code. `node` is a name and its metadata while the
    machine has no address yet."""
    _log_to_stderr()
    report = ending.report
    assert report.digest is not None  # files are in place
    version = Version.parse(report.generation) if report.generation else NEVER

    async def run() -> int:
        return await Watcher(
            node if isinstance(node, NodeRegistration) else _Addressed(*node, at),
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


class _Addressed:
    """The registration, once this machine has an address that routes to the server."""

    def __init__(self, identifier: str, payload: RegistrationPayload, at: ServerUrl) -> None:
        self._identifier = identifier
        self._payload = payload
        self._at = at
        self._found: NodeRegistration | None = None

    async def __call__(self) -> NodeRegistration:
        """Raises `Lost`."""
        if self._found is None:
            address = await in_thread(lambda: own_address(self._at, 0))
            self._found = NodeRegistration(self._identifier, address, self._payload)
        return self._found


def _log_to_stderr() -> None:
    """One line for each thing that changed, in the voice of the command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("cfgsync")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _say(sentence: str) -> None:
    print(sentence + "\n", end="", file=sys.stderr, flush=True)
