"""Registrations become the configuration files of an etcd cluster. cfgsync has no code for etcd; this module has it."""

from __future__ import annotations

import json
from hashlib import sha256

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


class Ports(msgspec.Struct):
    """The metadata of a member: `--metadata '{"peer_port":2380,"client_port":2379}'`."""

    peer_port: int
    client_port: int


class EtcdCluster:
    """One `/etcd.yaml` for each member, with all members of the snapshot as the initial cluster."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        members = [(node, node.metadata_as(Ports)) for node in registrations]
        cluster = ",".join(f"{node.identifier}={_url(node, ports.peer_port)}" for node, ports in members)
        return MaterializedArtifacts.from_nodes(
            {
                node.identifier: ArtifactSet([ArtifactFile("/etcd.yaml", _yaml(node, ports, cluster))])
                for node, ports in members
            }
        )


def three_members() -> Quorum:
    """Ready with any three members. Serve it with `--late freeze`: a running member does not take a new
    initial cluster, and a fourth one with another list would never become healthy."""
    return Quorum(EtcdCluster(), at_least=3)


def _url(node: NodeRegistration, port: int) -> str:
    return f"http://[{node.ip}]:{port}" if ":" in node.ip else f"http://{node.ip}:{port}"


def _yaml(node: NodeRegistration, ports: Ports, cluster: str) -> str:
    peer, client = _url(node, ports.peer_port), _url(node, ports.client_port)
    settings = {
        "name": node.identifier,
        "data-dir": "data",  # below the process's directory; never below out/current, which a new generation replaces
        "listen-peer-urls": peer,
        "listen-client-urls": client,
        "initial-advertise-peer-urls": peer,
        "advertise-client-urls": client,
        "initial-cluster": cluster,
        "initial-cluster-token": sha256(cluster.encode()).hexdigest()[:16],
        "initial-cluster-state": "new",
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items())
