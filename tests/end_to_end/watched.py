"""The application of the watch tests: each node gets what `boss` says for it in its metadata, and `more`, a second file;
`*` is for whom it does not name. The boss itself gets no files."""

from __future__ import annotations

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationSnapshot,
)


class Told:
    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        if list(registrations.identifiers) == ["boss"]:
            return NotReady("nobody is here but the boss")
        said = {}
        for registration in registrations:
            if registration.identifier == "boss" and isinstance(registration.metadata, dict):
                said = registration.metadata
        more = [ArtifactFile(said["more"], "")] if "more" in said else []
        return MaterializedArtifacts.from_nodes(
            {
                name: ArtifactSet(
                    [ArtifactFile("/text", str(said.get(name, said.get("*", "nothing"))) + "\n"), *more]
                )
                for name in registrations.identifiers
                if name != "boss"
            }
        )
