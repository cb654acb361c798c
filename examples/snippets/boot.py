"""The four pieces of a boot in one program: a registration, a materializer, a server, and a node that fetches its files."""

import asyncio

import msgspec

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NodeRegistration,
    NotReady,
    RegistrationSnapshot,
)
from cfgsync_runtime import ArtifactOutputMap, fetch_and_write_artifacts, serve_snapshot_cfgsync


class MyNodeMetadata(msgspec.Struct):
    network_port: int
    api_port: int


# The snippets are written here exactly as in the README of the repository.
# fmt: off
class MyMaterializer:
    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        if len(registrations) < 2:
            return NotReady(f"waiting for 2 nodes, have {len(registrations)}")
        return MaterializedArtifacts.from_nodes(
            {r.identifier: ArtifactSet([ArtifactFile("/config.yaml", f"id: {r.identifier}\n")]) for r in registrations}
        )


async def server() -> None:
    await serve_snapshot_cfgsync(4400, MyMaterializer())


async def node_1() -> None:
    registration = NodeRegistration("node-1", "127.0.0.1").with_metadata(MyNodeMetadata(network_port=3000, api_port=18080))

    outputs = ArtifactOutputMap().route("/config.yaml", "node-data/node-1/config.yaml")
    await fetch_and_write_artifacts(registration, "http://127.0.0.1:4400", outputs)
    print("node-1 has its files")
# fmt: on


async def node_2() -> None:
    registration = NodeRegistration("node-2", "127.0.0.1")
    outputs = ArtifactOutputMap().under("node-data/node-2")
    written = await fetch_and_write_artifacts(registration, "http://127.0.0.1:4400", outputs)
    print("node-2 has", *written.paths)


async def main() -> None:
    serving = asyncio.create_task(server())
    await asyncio.gather(node_1(), node_2())
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
