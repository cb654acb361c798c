"""Each node's file is made from the registrations and from the document `limits` of `default/production`."""

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    DocumentsSnapshot,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationSnapshot,
)


class Lobby:
    documents = "default/production"

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot, documents: DocumentsSnapshot
    ) -> MaterializationResult:
        limits = documents.get("limits")
        if limits is None:
            return NotReady("waiting for the document limits (cfgsync config set limits)")
        share = limits["players"] // len(registrations)
        return MaterializedArtifacts.from_nodes(
            {
                r.identifier: ArtifactSet([ArtifactFile("/lobby.yaml", f"players: {share}\n")])
                for r in registrations
            }
        )
