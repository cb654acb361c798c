"""The application of the watch tests: each node gets what `boss` says for it in its metadata, and `more`, a second file."""

from __future__ import annotations

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    RegistrationSnapshot,
)


class Told:
    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        said = {}
        for registration in registrations:
            if registration.identifier == "boss" and isinstance(registration.metadata, dict):
                said = registration.metadata
        more = [ArtifactFile(said["more"], "")] if "more" in said else []
        return MaterializedArtifacts.from_nodes(
            {
                name: ArtifactSet([ArtifactFile("/text", str(said.get(name, "nothing")) + "\n"), *more])
                for name in registrations.identifiers
            }
        )
