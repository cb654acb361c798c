"""A booted fleet in this process: each node is a real client with files on disk, and follows the server until it is stopped.

with serving_materializer(MyMaterializer()) as server, Fleet(server, directory) as fleet:
    fleet.boot(3)                                       # or names, or registrations
    assert fleet["node-1"].read("/config.yaml") == "id: node-1\\n"
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Self, TypeAlias

from cfgsync_artifacts import CfgsyncError
from cfgsync_core import AppliedFiles, CfgsyncClient, Fetched, NodeRegistration, Version
from cfgsync_core.text import counted

from ..node.memory.state import NodeState
from ..node.outputs import OutputDirectory, write
from ..node.programs import fetch_and_write_artifacts, refuse_no_seconds
from .served import WAIT, Served, raised, registered_as

Nodes: TypeAlias = int | Iterable[str | NodeRegistration]
"""A number of nodes (`node-1`, `node-2`, …), their names, or their registrations."""

SETTLING: Final = 5.0
"""Seconds at most until all nodes have files made from all nodes."""


class FleetNotBooted(CfgsyncError):
    """Some nodes have no files; the message says which and why. Its cause is what the materializer raised, if anything."""


class NotInStep(CfgsyncError):
    """Some nodes do not have what the current generation gives them; the message says which and why."""


class FleetNode:
    """One booted node. Its files are in `directory/current`; the methods read them at each call."""

    def __init__(self, registration: NodeRegistration, directory: Path) -> None:
        self.registration: Final = registration
        self.directory: Final = directory
        self.following: Future[None] | None = None
        """The task that follows the server after boot; None when it is stopped."""

    def path(self, path: str) -> Path:
        """The place of the file with this payload path."""
        return self.directory / "current" / path.lstrip("/")

    def read(self, path: str) -> str:
        """The text of a file. Raises `FileNotFoundError`, whose message names the files that exist."""
        try:
            return self.path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.registration.identifier} has no {path}; it has {', '.join(self.files) or 'no files'}"
            ) from None

    @property
    def files(self) -> dict[str, bytes]:
        """Content by payload path, sorted."""
        current = self.directory / "current"
        found = sorted(path for path in current.rglob("*") if path.is_file())
        return {f"/{path.relative_to(current).as_posix()}": path.read_bytes() for path in found}


class Fleet(Mapping[str, FleetNode]):
    """The nodes that were booted from `server`, by name, each below `directory`. Leaving stops them."""

    def __init__(self, server: Served, directory: str | os.PathLike[str]) -> None:
        self.server: Final = server
        self.directory: Final = Path(directory)
        self._nodes: dict[str, FleetNode] = {}

    def __getitem__(self, name: str) -> FleetNode:
        if name not in self._nodes:
            raise KeyError(
                f"there is no node {name!r}; the nodes are {', '.join(self._nodes) or 'not booted yet'}"
            )
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(*self)

    def boot(
        self,
        nodes: Nodes,
        *,
        metadata: object | Callable[[str], object] = None,
        wait: float = WAIT,
    ) -> None:
        """Start `nodes` together, and return when all have their files, those made from all of them. From then on they
        follow the server, as `cfgsync fetch --watch` does.

        A node given by name registers with address 127.0.0.1, 127.0.0.2, …, on which a test can listen, and with
        `metadata` (a value, or a function of the name). A name that is already in the fleet restarts with its state.
        Raises `TypeError` and `ValueError` for what is neither nodes nor seconds; `FleetNotBooted` after `wait` seconds, or at once when the materializer has seen all of them and raises.
        """
        refuse_no_seconds("wait", wait)
        registrations = self._registrations(nodes, metadata)
        started = {one.identifier: FleetNode(one, self.directory / one.identifier) for one in registrations}
        self.stop(*started)
        refused = self.server.loop.run(self._booted(started, wait))
        if refused is not None:
            __tracebackhide__ = True  # what matters is the caller's line, and what the materializer raised
            raise refused from self.server.failure
        self.server.loop.run(self._settled(started.keys()))

    def stop(self, *names: str) -> None:
        """End these nodes; their files stay. The server does not notice, as when a machine is switched off."""
        for name in names:
            if (node := self._nodes.get(name)) is not None and node.following is not None:
                self.server.loop.run(_cancelled(node.following))
                node.following = None

    def wait_in_step(self, wait: float = WAIT) -> None:
        """Return when every registered node has acknowledged what the current generation gives it, and it covers all
        registrations. Raises `NotInStep` after `wait` seconds; `ValueError` for a negative number."""
        refuse_no_seconds("wait", wait)
        why = self.server.loop.run(self._in_step(wait))
        if why:
            __tracebackhide__ = True
            raise NotInStep(f"not in step after {wait:g} s: {why}") from self.server.failure

    def _registrations(
        self, nodes: Nodes, metadata: object | Callable[[str], object]
    ) -> list[NodeRegistration]:
        if isinstance(nodes, bool) or not isinstance(nodes, int | Iterable):
            raise TypeError(f"nodes is a number of nodes, their names, or their registrations, not {nodes!r}")
        if isinstance(nodes, int):
            if nodes < 0:
                raise ValueError(f"nodes={nodes}: give a number of nodes, 0 or more")
            nodes = [f"node-{number}" for number in range(1, nodes + 1)]
        elif isinstance(nodes, str):
            nodes = [nodes]
        registrations = []
        for number, node in enumerate(nodes, len(self._nodes) + 1):
            name = node if isinstance(node, str) else node.identifier
            ip = f"127.0.{number // 256}.{number % 256}"
            if name in self._nodes and isinstance(node, str):
                ip = self._nodes[name].registration.ip  # it restarts with its old address
            registrations.append(registered_as(node, ip, metadata(name) if callable(metadata) else metadata))
        names = [one.identifier for one in registrations]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"nodes: {', '.join(twice)} is given twice; each node has a name of its own")
        return registrations

    async def _booted(self, started: Mapping[str, FleetNode], wait: float) -> FleetNotBooted | None:
        booting = await self.server.unless_failed(
            [node.registration for node in started.values()],
            [self._first_files(node, wait) for node in started.values()],
        )
        refused = self._refused(dict(zip(booting, started, strict=True)))
        if refused is None:
            self._nodes |= started
            for node in started.values():
                node.following = self.server.loop.start(self._follow(node))
        return refused

    def _refused(self, booting: Mapping[asyncio.Task[None], str]) -> FleetNotBooted | None:
        without, reasons = 0, []
        for task, name in booting.items():
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, CfgsyncError):
                raise error
            without += task.cancelled() or error is not None
            if error is not None:
                reasons.append(f"{name}: {error}")
        if not without:
            return None
        failure = self.server.failure
        if failure is not None:
            reasons.insert(0, raised(failure))
        return FleetNotBooted(
            f"{without} of {counted(len(booting), 'node')} {'has' if without == 1 else 'have'} no files; {_few(reasons)}"
        )

    async def _first_files(self, node: FleetNode, wait: float) -> None:
        outputs = OutputDirectory(os.fspath(node.directory))
        await fetch_and_write_artifacts(
            node.registration, self.server.url, outputs, wait=wait, state=self._state(node)
        )

    async def _follow(self, node: FleetNode) -> None:
        state = NodeState(self._state(node), node.registration.identifier)
        seen = await asyncio.to_thread(state.seen)
        held = None if seen is None else AppliedFiles(Version(seen.epoch, seen.number), seen.digest)
        outputs = OutputDirectory(os.fspath(node.directory))

        async def apply(fetched: Fetched) -> None:
            await asyncio.to_thread(write, outputs.plan(fetched.payload.raw_files()))

        secret = await asyncio.to_thread(state.secret)
        async with CfgsyncClient(self.server.url, secret=secret) as client:
            await client.watch(node.registration, apply, held=held).run()

    def _state(self, node: FleetNode) -> str:
        return os.fspath(self.directory / ".state" / node.registration.identifier)

    async def _settled(self, names: Set[str]) -> None:
        """Return when these nodes have their final files: a materializer may be ready before all nodes are registered."""
        loop = asyncio.get_running_loop()
        end = loop.time() + SETTLING
        while loop.time() < end:
            status = await asyncio.to_thread(self.server.status)
            if status.generation is None or (status.reason and not status.pending):
                return  # a bundle's nodes acknowledge nothing
            if not status.pending and all(
                node.state in ("applied", "no_files") for node in status.nodes if node.identifier in names
            ):
                return
            await asyncio.sleep(0.01)

    async def _in_step(self, wait: float) -> str:
        """Why the fleet is not in step, "" when it is."""
        end = asyncio.get_running_loop().time() + wait
        while not (status := await asyncio.to_thread(self.server.status)).converged:
            if asyncio.get_running_loop().time() > end:
                behind = [f"{node.identifier}: {node.reason}" for node in status.behind]
                return _few(behind) or status.reason or "no generation covers every registration"
            await asyncio.sleep(0.01)
        return ""


def _few(reasons: list[str]) -> str:
    return "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "")


async def _cancelled(following: Future[None]) -> None:
    following.cancel()
    await asyncio.gather(asyncio.wrap_future(following), return_exceptions=True)
