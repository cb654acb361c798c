"""Mistakes that types must find: each line that ends with `# wrong` is one, and no other line."""

from __future__ import annotations

from cfgsync_adapter import (
    ArtifactFile,
    MaterializedArtifacts,
    NodeRegistration,
    Quorum,
    RegistrationSnapshot,
)
from cfgsync_runtime import ArtifactOutputMap, fetch_and_write_artifacts


class Forgetful:
    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> str:
        return "ready"


async def mistakes() -> None:
    NodeRegistration("node-1", 127)  # wrong
    ArtifactFile("/config.yaml")  # wrong
    Quorum(Forgetful(), at_least=2)  # wrong
    MaterializedArtifacts.from_nodes({"node-1": 3})  # wrong
    node = NodeRegistration("node-1", "127.0.0.1")
    await fetch_and_write_artifacts(node, 4400, ArtifactOutputMap())  # wrong
    node.identifer  # wrong  # noqa: B018
