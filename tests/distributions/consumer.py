"""A program that uses cfgsync as its pages say, typed throughout: mypy and pyright at their strictest find nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import assert_type

import msgspec

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    CachedSnapshotMaterializer,
    MaterializationResult,
    MaterializedArtifacts,
    NodeRegistration,
    NotReady,
    Quorum,
    RegistrationConfigSource,
    RegistrationSnapshot,
    RegistrationSnapshotMaterializer,
)
from cfgsync_core import CfgsyncClient, Missing, Ready
from cfgsync_runtime import ArtifactOutputMap, OutputDirectory, fetch_and_write_artifacts, serving_snapshot
from cfgsync_runtime.node.outputs import Written


class Peer(msgspec.Struct):
    port: int


class Peers:
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        if any(name not in {node.identifier for node in registrations} for name in self._names):
            return NotReady("somebody is missing")
        files: dict[str, ArtifactSet] = {}
        for node in registrations:
            peer = node.metadata_as(Peer)
            assert_type(peer, Peer)
            files[node.identifier] = ArtifactSet([ArtifactFile("/listen", f"{node.ip}:{peer.port}\n")])
        return MaterializedArtifacts.from_nodes(files).with_shared([ArtifactFile("/size", str(len(files)))])


def fleet() -> RegistrationSnapshotMaterializer:
    """A function that returns one is what `cfgsync serve MODULE:NAME` takes."""
    return CachedSnapshotMaterializer(Quorum(Peers(["node-1"]), expected=["node-1"]))


async def without_a_server(node: NodeRegistration) -> int:
    async with RegistrationConfigSource(fleet()) as source:
        await source.register(node)
        match await source.resolve(node.identifier):
            case Ready(payload):
                return len(payload.files)
            case NotReady() | Missing():
                return 0


async def with_a_server(node: NodeRegistration, directory: str) -> list[str]:
    outputs = ArtifactOutputMap().route("/listen", f"{directory}/listen").route("/size", f"{directory}/size")
    async with serving_snapshot(fleet()) as server:
        written = await fetch_and_write_artifacts(node, server.url, outputs)
        assert_type(written, Written)
        await fetch_and_write_artifacts(node, server.url, OutputDirectory(directory))
        async with CfgsyncClient(server.url) as client:
            await client.register(node)
        return list(written.paths)


async def main() -> None:
    node = NodeRegistration("node-1", "127.0.0.1").with_metadata(Peer(port=7000))
    print(await without_a_server(node))


if __name__ == "__main__":
    asyncio.run(main())
