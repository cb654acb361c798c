"""Every node is told where the others are."""

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
    """Ready with three nodes, whoever they are."""
    return Quorum(Peers(), at_least=3)
