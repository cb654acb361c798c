"""The demo's nodes and their files: named, generated, read from disk and compared."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    RegistrationSnapshot,
)
from cfgsync_core import NodeRegistration
from cfgsync_core.text import counted

from ..errors import MachineRefused

PROCESSES: Final = 5  # nodes that are processes: each costs 0.13 s of processor time to start
FILES: Final = 2  # of each node
SHOWN: Final = 3  # nodes in the tree
DEFECT: Final = "this is a defect of cfgsync: report it"


class DemoFailed(MachineRefused):
    """A step of the demo failed; the message says which, and `hint` what to do."""


class DemoNode(msgspec.Struct, frozen=True):
    """One node: a process of its own, or a task in this process."""

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


def fleet_of(count: int, directory: str) -> list[DemoNode]:
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


def checked(nodes: Sequence[DemoNode]) -> int:
    """Compare every file on disk with what it must be; return their size in bytes. Raises `DemoFailed`."""
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
                raise DemoFailed(f"{path} is not what the server made for it", DEFECT)
            size += len(found)
    return size


def tree(directory: str, nodes: Sequence[DemoNode]) -> Iterable[str]:
    """The lines of a directory tree: a few nodes, and the number of the others."""
    yield directory
    database = os.path.join(directory, "server.db")
    if os.path.exists(database):
        yield f"├── server.db  {os.path.getsize(database):,} bytes"
    shown = [*nodes[: SHOWN - 1], nodes[-1]] if len(nodes) > SHOWN else list(nodes)
    for node in shown:
        if node is nodes[-1] and len(nodes) > len(shown):
            yield f"├── … {counted(len(nodes) - len(shown), 'more node')}, each with {FILES} files"
        end = node is nodes[-1]
        target = os.readlink(os.path.join(node.directory, "current"))
        yield f"{'└' if end else '├'}── {node.name}/current -> {target}"
        rail = "    " if end else "│   "
        names = sorted(os.listdir(os.path.join(node.directory, "current")))
        for name in names:
            with open(os.path.join(node.directory, "current", name), encoding="utf-8") as file:
                text = file.read()
            what = (
                " · ".join(text.splitlines())
                if len(text) < 80
                else counted(len(text.splitlines()) - 1, "node")
            )
            yield f"{rail}{'└' if name == names[-1] else '├'}── {name}  {what}"
