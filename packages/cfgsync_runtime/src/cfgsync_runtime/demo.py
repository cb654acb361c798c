"""A whole boot on this machine, a line for each step: server, nodes, files on disk, one change. Nothing in it is acted.

The addresses are made up; the server, its SQLite file, the sockets, the nodes' processes and the files are real, and
what a line says was read from `GET /status` or from the disk.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import msgspec

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    Quorum,
    RegistrationSnapshot,
)
from cfgsync_core import CfgsyncError, FleetStatus, HttpServer, NodeRegistration

from .errors import MachineRefused
from .outputs import OutputDirectory
from .programs import fetch_and_write_artifacts
from .serve import serving_snapshot

PROCESSES: Final = 5  # nodes that are processes: each costs 0.13 s of processor time to start
HELD_BACK: Final = 0.5  # s that the last node is late, so that what the others are told can be read
WITHIN: Final = 60.0  # s after which a step counts as failed
SPACING: Final = 0.01  # s between the starts of nodes
EVERY: Final = 0.25  # s between two lines about who is missing
FILES: Final = 2  # of each node
SHOWN: Final = 3  # nodes in the tree
DEFECT: Final = "this is a defect of cfgsync: report it"

Say = Callable[[str], None]


class DemoFailed(MachineRefused):
    """A step of the demo did not come to its end; the message says which, and `hint` what to do."""


class DemoNode(msgspec.Struct, frozen=True):
    """One node: a process of its own, or a task in this one."""

    name: str
    ip: str
    port: int
    directory: str
    secret: str
    is_process: bool

    @property
    def registration(self) -> NodeRegistration:
        return NodeRegistration(self.name, self.ip).with_metadata({"port": self.port})


class Peers:
    """The demo's materializer: every node gets its own `/node.yaml`, and all share `/peers.yaml`."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        nodes = [(r.identifier, f"{r.ip}:{r.metadata['port']}") for r in registrations]
        return MaterializedArtifacts.from_nodes(
            {name: ArtifactSet([ArtifactFile("/node.yaml", _own(name, at))]) for name, at in nodes}
        ).with_shared(ArtifactSet([ArtifactFile("/peers.yaml", _peers(nodes))]))


async def boot(count: int, directory: str, say: Say) -> float:
    """Boot `count` nodes below `directory`, which is there and empty; the seconds that it took.

    Raises `DemoFailed` or another `CfgsyncError`.
    """
    began = time.monotonic()

    def step(text: str) -> None:
        say(f"{time.monotonic() - began:6.2f} s  {text}")

    nodes = _fleet(count, directory)
    rule = Quorum(Peers(), expected=[node.name for node in nodes])
    store = f"sqlite:{os.path.join(directory, 'server.db')}"
    async with serving_snapshot(rule, store=store) as server, _asking(server) as status:
        step(f"server up: {server.url}, registrations in SQLite (server.db)")
        await _first_boot(nodes, server.url, status, step)
        fleet = await status()
        size = _checked(nodes)
        step(f"{count} payloads fetched, {FILES * count} files on disk ({size:,} bytes), each compared")
        if count > 1:
            nodes = await _one_moves(nodes, server.url, step)
            fleet = await status()
            _checked(nodes)
            step(f"every node has generation {_number(fleet)}: {FILES * count} files compared again")
        behind = [node.identifier for node in fleet.nodes if node.served != fleet.generation]
        if behind or fleet.registered != count:
            raise DemoFailed(
                f"{fleet.registered} of {count} nodes are registered, {len(behind)} of them behind: {behind[:5]}",
                DEFECT,
            )
        took = time.monotonic() - began
    for line in ("", *_tree(directory, nodes), ""):
        say(line)
    return took


async def _first_boot(
    nodes: Sequence[DemoNode], url: str, status: Callable[[], Awaitable[FleetStatus]], step: Say
) -> None:
    """Start every node, the last one late, and tell who is missing until all have their files."""
    *others, last = nodes
    async with _all_or_first_failure() as group:
        group.create_task(_start(others, url))
        told, told_at = "", 0.0
        while (fleet := await status()).registered < len(others):
            now = time.monotonic()
            why = _missing(fleet)
            if why != told and now - told_at > EVERY:
                told, told_at = why, now
                step(why)
            await asyncio.sleep(0.05)
        if others:
            await asyncio.sleep(HELD_BACK)
            fleet = await status()
            step(f"{_missing(fleet)}; {fleet.waiting} wait, each in one held request")
        group.create_task(_fetch(last, url))
        step(
            f"{last.name} starts"
            + (f", held back for {HELD_BACK} s so that this can be read" if others else "")
        )
        while (fleet := await status()).generation is None:  # noqa: ASYNC110 - asked over HTTP
            await asyncio.sleep(0.01)
        step(f"ready: generation {_number(fleet)}, made from {fleet.registered} registrations")


async def _one_moves(nodes: Sequence[DemoNode], url: str, step: Say) -> list[DemoNode]:
    """The first node starts again at another address; then all others ask again."""
    first = msgspec.structs.replace(nodes[0], ip="10.99.0.1")
    step(f"{first.name} starts again, as {first.ip} instead of {nodes[0].ip}: that makes the next generation")
    async with _all_or_first_failure() as group:
        group.create_task(_fetch(first, url))
    step(f"{first.name} has its new files; the others ask again")
    moved = [first, *nodes[1:]]
    async with _all_or_first_failure() as group:
        group.create_task(_start(moved[1:], url))
    return moved


async def _start(nodes: Iterable[DemoNode], url: str) -> None:
    """Start the nodes one after the other, and return when all have their files."""
    async with asyncio.TaskGroup() as group:
        for node in nodes:
            group.create_task(_fetch(node, url))
            await asyncio.sleep(SPACING)


async def _fetch(node: DemoNode, url: str) -> None:
    """One node's way to its files, as a process or as a task."""
    if not node.is_process:
        outputs = OutputDirectory(node.directory)
        await fetch_and_write_artifacts(node.registration, url, outputs, wait=WITHIN, secret=node.secret)
        return
    words = ["--server", url, "--id", node.name, "--ip", node.ip, "--metadata", f'{{"port":{node.port}}}']
    words += ["--out", node.directory, "--state", f"{node.directory}.state", "--wait", str(WITHIN)]
    # -P: a module in the directory from which the demo is run must not shadow one of ours
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", "from cfgsync_runtime.cli import main; main()", "fetch", *words),
        env={name: text for name, text in os.environ.items() if not name.startswith("CFGSYNC_")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = [
            line for line in said.decode(errors="replace").splitlines() if not line.startswith("waiting")
        ]
        what, hint = (*lines[-2:], "", "")[:2]
        raise DemoFailed(f"{node.name}: cfgsync fetch ended with {process.returncode}: {what}", hint)


def _fleet(count: int, directory: str) -> list[DemoNode]:
    width = len(str(count))
    nodes = []
    for number in range(1, count + 1):
        name = f"node-{number:0{width}}"
        ip = f"10.0.{(number - 1) // 250}.{(number - 1) % 250 + 1}"
        secret = secrets.token_urlsafe(32)
        place = os.path.join(directory, name)
        nodes.append(DemoNode(name, ip, 7000 + number, place, secret, number <= PROCESSES))
    return nodes


def _own(name: str, at: str) -> str:
    return f"id: {name}\nlisten: {at}\n"


def _peers(nodes: Iterable[tuple[str, str]]) -> str:
    return "peers:\n" + "".join(f"  {name}: {at}\n" for name, at in nodes)


def _checked(nodes: Sequence[DemoNode]) -> int:
    """How many bytes the nodes' files have. Raises `DemoFailed` when one of them is not what it has to be."""
    places = [(node.name, f"{node.ip}:{node.port}") for node in nodes]
    peers = _peers(places)
    size = 0
    for node, (name, at) in zip(nodes, places, strict=True):
        for file, expected in (("node.yaml", _own(name, at)), ("peers.yaml", peers)):
            path = os.path.join(node.directory, "current", file)
            try:
                with open(path, encoding="utf-8") as opened:
                    found = opened.read()
            except OSError as error:
                raise DemoFailed(f"{path}: {error.strerror}", DEFECT) from error
            if found != expected:
                raise DemoFailed(f"{path} is not what was made for it", DEFECT)
            size += len(found)
    return size


def _missing(fleet: FleetStatus) -> str:
    """Who is here and who is missing, as the server's condition says it; its reason where there is none."""
    for condition in fleet.conditions:
        names = ", ".join(condition.missing[:3])
        more = len(condition.missing) - 3
        also = f" and {more} more" if more > 0 else ""
        return f"not ready: {condition.have} of {condition.need} nodes, missing {names}{also}"
    return f"not ready: {fleet.reason}"


def _number(fleet: FleetStatus) -> str:
    return (fleet.generation or "none").rpartition(".")[2]


def _tree(directory: str, nodes: Sequence[DemoNode]) -> Iterable[str]:
    """What is on disk: a few nodes, the rest counted."""
    yield directory
    yield f"├── server.db  {os.path.getsize(os.path.join(directory, 'server.db')):,} bytes"
    shown = [*nodes[: SHOWN - 1], nodes[-1]] if len(nodes) > SHOWN else list(nodes)
    for node in shown:
        if node is nodes[-1] and len(nodes) > len(shown):
            yield f"├── … {len(nodes) - len(shown)} more nodes, each with {FILES} files"
        end = node is nodes[-1]
        target = os.readlink(os.path.join(node.directory, "current"))
        yield f"{'└' if end else '├'}── {node.name}/current -> {target}"
        rail = "    " if end else "│   "
        names = sorted(os.listdir(os.path.join(node.directory, "current")))
        for name in names:
            with open(os.path.join(node.directory, "current", name), encoding="utf-8") as file:
                text = file.read()
            what = " · ".join(text.splitlines()) if len(text) < 80 else f"{len(text.splitlines()) - 1} nodes"
            yield f"{rail}{'└' if name == names[-1] else '├'}── {name}  {what}"


@asynccontextmanager
async def _asking(server: HttpServer) -> AsyncIterator[Callable[[], Awaitable[FleetStatus]]]:
    """`GET /status`, over HTTP as anybody else would ask."""
    async with aiohttp.ClientSession(server.url) as session:

        async def status() -> FleetStatus:
            try:
                async with session.get("/status") as answer:
                    return msgspec.json.decode(await answer.read(), type=FleetStatus)
            except (aiohttp.ClientError, msgspec.DecodeError) as error:
                raise DemoFailed(f"GET /status failed: {error}", DEFECT) from error

        yield status


@asynccontextmanager
async def _all_or_first_failure() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group within the demo's time that raises its first failure of ours as it is."""
    try:
        async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as group:
            yield group
    except TimeoutError as error:
        raise DemoFailed(
            f"not all nodes had their files after {WITHIN:g} s", "try fewer: cfgsync demo --nodes 10"
        ) from error
    except ExceptionGroup as group_error:
        raise _first(group_error) from group_error


def _first(error: Exception) -> Exception:
    """The first `CfgsyncError` in a group of groups, else the first exception."""
    found = [error]
    leaves: list[Exception] = []
    while found:
        one = found.pop(0)
        if isinstance(one, ExceptionGroup):
            found += one.exceptions
        else:
            leaves.append(one)
    return next((leaf for leaf in leaves if isinstance(leaf, CfgsyncError)), leaves[0])
