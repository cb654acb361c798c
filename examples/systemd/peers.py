"""Every node gets the addresses of the others."""

from cfgsync_adapter import (
    ArtifactFile,
    MaterializationResult,
    MaterializedArtifacts,
    Quorum,
    RegistrationSnapshot,
)


class Peers:
    """One `/peers.txt` for each node."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        places = {node.identifier: f"{node.ip}:{node.metadata['port']}" for node in registrations}
        return MaterializedArtifacts.from_nodes(
            {
                name: [
                    ArtifactFile(
                        "/peers.txt", "".join(f"{at}\n" for other, at in places.items() if other != name)
                    )
                ]
                for name in places
            }
        )


def three_peers() -> Quorum:
    """Ready with any three nodes."""
    return Quorum(Peers(), at_least=3)
