"""The application of the rollout tests: each node gets the names of all, and what `boss` says in its metadata for it, or for
`*`. It is ready with as many nodes as the boss says."""

from __future__ import annotations

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationSnapshot,
)


class Rolled:
    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        said = {}
        for registration in registrations:
            if registration.identifier == "boss" and isinstance(registration.metadata, dict):
                said = registration.metadata
        names = [name for name in registrations.identifiers if name != "boss"]
        if not said or len(names) < said["size"]:
            return NotReady("not all are here")
        peers = ArtifactFile("/peers", " ".join(names) + "\n")
        return MaterializedArtifacts.from_nodes(
            {
                name: ArtifactSet([ArtifactFile("/text", f"{said.get(name, said['*'])}\n"), peers])
                for name in names
            }
        )
