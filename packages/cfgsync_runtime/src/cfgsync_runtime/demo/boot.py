"""Boot a fleet on this machine, step by step: server, nodes, files on disk, one change.

Only the nodes' addresses are invented. Each printed fact was read from `GET /status` or from the disk.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import msgspec

from cfgsync_core import CfgsyncError, ServerUrl
from cfgsync_core.text import counted

from ..node.fetch import fetch
from ..node.memory.state import NodeState
from ..node.outputs import OutputDirectory
from ..node.programs import fetch_and_write_artifacts
from ..process.threads import in_thread
from .fleet import DEFECT, FILES, DemoFailed, DemoNode, checked, fleet_of, tree
from .progress import Progress, ProgressCounts, missing, number
from .servers import CFGSYNC, DemoServers, demo_servers

HELD_BACK: Final = 0.5  # s that the last node starts late, so that a person can read why the others wait
WITHIN: Final = 60.0  # s after which a step counts as failed
SPACING: Final = 0.01  # s between the starts of nodes
EVERY: Final = 0.25  # s between two lines about missing nodes
REDRAW: Final = 0.1  # s between two updates of a live display


class Reporter(Protocol):
    """Shows the boot to a person."""

    @property
    def is_live(self) -> bool:
        """Whether `show` is called, ten times a second. Otherwise `step` also names the missing nodes."""

    def step(self, seconds: float, text: str) -> None:
        """Something happened, so many seconds after the start."""

    def show(self, seconds: float, counts: ProgressCounts) -> None:
        """The nodes of each phase."""

    def ends(self, tree: Iterable[str]) -> None:
        """The boot has ended, and this is on disk."""


class Lines:
    """Gives one plain line for each step to `write`."""

    is_live = False

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def step(self, seconds: float, text: str) -> None:
        self._write(f"{seconds:6.2f} s  {text}")

    def show(self, seconds: float, counts: ProgressCounts) -> None:
        """Plain lines show steps only."""

    def ends(self, tree: Iterable[str]) -> None:
        for line in ("", *tree, ""):
            self._write(line)


async def boot(
    count: int, directory: str, reporter: Reporter, store: str | None = None, servers: int = 1
) -> float:
    """Boot `count` nodes below `directory`, which exists and is empty; return the seconds that it took. `servers` share the
    store at a URL; without one, a server keeps its own in the directory.

    Raises `DemoFailed` or another `CfgsyncError`.
    """
    began = time.monotonic()
    nodes = fleet_of(count, directory)
    async with demo_servers([node.name for node in nodes], directory, store, servers) as running:
        status = running.status
        demo = _Boot(nodes, running, reporter, began)
        demo.step(running.what)
        async with demo.watched():
            await demo.first_boot()
            fleet = await status()
            size = checked(nodes)
            demo.step(
                f"{counted(count, 'payload')} fetched, {counted(FILES * count, 'file')} on disk ({size:,} bytes), each compared"
            )
            if count > 1:
                await demo.one_moves()
                fleet = await status()
                checked(demo.nodes)
                demo.step(f"every node has generation {number(fleet)}: {FILES * count} files compared again")
        behind = [node.identifier for node in fleet.nodes if node.served != fleet.generation]
        if behind or fleet.registered != count:
            raise DemoFailed(
                f"{fleet.registered} of {counted(count, 'node')} registered, {len(behind)} of them behind: {behind[:5]}",
                DEFECT,
            )
        took = time.monotonic() - began
    reporter.ends(tree(directory, demo.nodes))
    return took


class _Boot:
    """One boot: starts the nodes and reports each step."""

    def __init__(
        self, nodes: Sequence[DemoNode], servers: DemoServers, reporter: Reporter, began: float
    ) -> None:
        self.nodes = list(nodes)
        self._servers = servers
        self._status = servers.status
        self._reporter = reporter
        self._began = began
        self._progress = Progress([node.name for node in nodes])

    def step(self, text: str) -> None:
        self._reporter.step(time.monotonic() - self._began, text)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Update a live reporter again and again."""
        if not self._reporter.is_live:
            yield
            return

        async def redraw() -> None:
            while True:
                await self._show()
                await asyncio.sleep(REDRAW)

        redrawing = asyncio.create_task(redraw())
        try:
            yield
        finally:
            redrawing.cancel()
            await asyncio.gather(redrawing, return_exceptions=True)
        await self._show()

    async def _show(self) -> None:
        counts = self._progress.counts(await self._status())
        self._reporter.show(time.monotonic() - self._began, counts)

    async def first_boot(self) -> None:
        """Start every node, the last one late, and name the missing nodes until all have their files."""
        *others, last = self.nodes
        async with _all_or_first_failure() as group:
            group.create_task(self._start(others))
            await self._until_registered(len(others))
            if others:
                await asyncio.sleep(HELD_BACK)
                fleet = await self._status()
                self.step(
                    f"{missing(fleet)}; {fleet.waiting} {'waits' if fleet.waiting == 1 else 'wait, each'} in one held request"
                )
            if self._servers.are_several:
                killed = await self._servers.kill_one()
                self.step(f"{killed} is killed (kill -9): its nodes ask another server")
            group.create_task(self._fetch(last))
            late = f", held back for {HELD_BACK} s so that this can be read" if others else ""
            self.step(f"{last.name} starts{late}")
            while (fleet := await self._status()).generation is None:  # noqa: ASYNC110 - over HTTP there is no event
                await asyncio.sleep(0.01)
            ready = time.monotonic()
            self.step(
                f"ready: generation {number(fleet)}, made from {counted(fleet.registered, 'registration')}"
            )
        first, last_one = (max(seconds, 0.0) for seconds in self._progress.after(ready))
        self.step(f"files in place: the first {first:.2f} s after that, the last {last_one:.2f} s")

    async def _until_registered(self, count: int) -> None:
        """Return when so many are registered. Until then, name the missing nodes, unless a live display does."""
        printed, printed_at = "", 0.0
        while (fleet := await self._status()).registered < count:
            now = time.monotonic()
            why = missing(fleet)
            if why != printed and now - printed_at > EVERY and not self._reporter.is_live:
                printed, printed_at = why, now
                self.step(why)
            await asyncio.sleep(0.05)

    async def one_moves(self) -> None:
        """The first node restarts with another address; then all others fetch again."""
        old = self.nodes[0]
        first = msgspec.structs.replace(old, ip="10.99.0.1")
        self.nodes[0] = first
        self._progress.again()
        self.step(
            f"{first.name} restarts with address {first.ip} instead of {old.ip}: that makes the next generation"
        )
        async with _all_or_first_failure() as group:
            group.create_task(self._fetch(first))
        self.step(f"{first.name} has its new files; the others fetch again")
        async with _all_or_first_failure() as group:
            group.create_task(self._start(self.nodes[1:]))

    async def _start(self, nodes: Iterable[DemoNode]) -> None:
        """Start the nodes one after the other, and return when all have their files."""
        async with asyncio.TaskGroup() as group:
            for node in nodes:
                group.create_task(self._fetch(node))
                await asyncio.sleep(SPACING)

    async def _fetch(self, node: DemoNode) -> None:
        """Fetch one node's files, in a process or in a task."""
        self._progress.begins(node.name)
        servers = self._servers.urls(node.port)
        outputs = OutputDirectory(node.directory)
        if node.is_process:
            await _process(node, servers)
        elif self._servers.are_several:
            await in_thread(lambda: _as_the_command(node, servers, outputs))
        else:
            await fetch_and_write_artifacts(
                node.registration, servers, outputs, wait=WITHIN, secret=node.secret
            )
        self._progress.ends(node.name)


def _as_the_command(node: DemoNode, servers: str, outputs: OutputDirectory) -> None:
    """What `cfgsync fetch` does. Raises `DemoFailed`."""
    state = NodeState(f"{node.directory}.state", node.name)
    ended = fetch(node.registration, ServerUrl.parse_several(servers), outputs, state, wait=WITHIN)
    if ended.report.exit:
        raise DemoFailed(f"{node.name}: {ended.report.message}", ended.hint)


async def _process(node: DemoNode, servers: str) -> None:
    """Run `cfgsync fetch` to its end. Raises `DemoFailed`."""
    options = [
        "--server",
        servers,
        "--id",
        node.name,
        "--ip",
        node.ip,
        "--metadata",
        f'{{"port":{node.port}}}',
    ]
    options += ["--out", node.directory, "--state", f"{node.directory}.state", "--wait", str(WITHIN)]
    process = await asyncio.create_subprocess_exec(
        *(*CFGSYNC, "fetch", *options),
        env={name: text for name, text in os.environ.items() if not name.startswith("CFGSYNC_")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = errors.decode(errors="replace").splitlines()
        lines = [line for line in lines if not line.startswith("waiting")]
        what, hint = (*lines[-2:], "", "")[:2]
        raise DemoFailed(f"{node.name}: cfgsync fetch ended with {process.returncode}: {what}", hint)


@asynccontextmanager
async def _all_or_first_failure() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group with a time limit that raises its first `CfgsyncError` as it is."""
    try:
        async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as group:
            yield group
    except TimeoutError as error:
        raise DemoFailed(
            f"not all nodes had their files after {WITHIN:g} s", "try fewer: cfgsync demo --nodes 10"
        ) from error
    except ExceptionGroup as group_error:
        raise _first(group_error) from group_error


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The first `CfgsyncError` in a group of groups, else the first exception."""
    first: Exception = group.subgroup(CfgsyncError) or group
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    return first
