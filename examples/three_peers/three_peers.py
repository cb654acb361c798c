"""Three peers that learn of each other: typed metadata in, a peer list for each and one shared file out.

Run it: `python three_peers.py`. It starts a server on a free port and three nodes that know only its address, and shows
the files that each of them got.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NodeRegistration,
    Quorum,
    RegistrationSnapshot,
)
from cfgsync_runtime import OutputDirectory, fetch_and_write_artifacts, serving_snapshot


class Peer(msgspec.Struct):
    """The metadata of a node."""

    port: int
    role: str = "follower"


class Peers:
    """Every node gets a list of the others, and one shared file with all members and their roles."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        peers = [(node, node.metadata_as(Peer)) for node in registrations]
        own = {
            node.identifier: ArtifactSet(
                [
                    ArtifactFile("/node.yaml", f"id: {node.identifier}\nlisten: {node.ip}:{peer.port}\n"),
                    ArtifactFile("/peers.txt", _lines(f"{n.ip}:{p.port}" for n, p in peers if n is not node)),
                ]
            )
            for node, peer in peers
        }
        members = _lines(f"{node.identifier} {peer.role}" for node, peer in peers)
        return MaterializedArtifacts.from_nodes(own).with_shared(
            [ArtifactFile("/cluster/members.txt", members)]
        )


def three_peers() -> Quorum:
    """Ready with any three nodes: `cfgsync serve three_peers:three_peers`."""
    return Quorum(Peers(), at_least=3)


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


NODES = (
    NodeRegistration("alice", "10.0.0.1").with_metadata(Peer(port=7000, role="leader")),
    NodeRegistration("bob", "10.0.0.2").with_metadata(Peer(port=7000)),
    NodeRegistration("carol", "10.0.0.3").with_metadata(Peer(port=7100)),
)


async def boot(directory: Path) -> None:
    """Serve, and boot the three nodes below `directory`, all at once."""
    async with serving_snapshot(three_peers()) as server, asyncio.TaskGroup() as nodes:
        for node in NODES:
            outputs = OutputDirectory(str(directory / node.identifier))
            nodes.create_task(fetch_and_write_artifacts(node, server.url, outputs))


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(boot(Path(directory)))
        for node in NODES:
            current = Path(directory, node.identifier, "current")
            for file in sorted(path for path in current.rglob("*") if path.is_file()):
                print(
                    f"{node.identifier}/{file.relative_to(current)}:",
                    *file.read_text().splitlines(),
                    sep="\n    ",
                )


if __name__ == "__main__":
    main()
