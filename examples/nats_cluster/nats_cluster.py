"""Registrations become the configuration files of a NATS cluster. cfgsync has no code for NATS; this module has it."""

from __future__ import annotations

import json

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
    """The metadata of a server: `--metadata '{"client_port":4222,"route_port":6222}'`."""

    client_port: int
    route_port: int


class NatsCluster:
    """One `/nats.conf` for each server: its own ports, JetStream, and routes to all the others."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        servers = [(node, node.metadata_as(Ports)) for node in registrations]
        files = {}
        for node, ports in servers:
            routes = [
                f"nats-route://{_at(other, theirs.route_port)}"
                for other, theirs in servers
                if other is not node
            ]
            files[node.identifier] = ArtifactSet([ArtifactFile("/nats.conf", _conf(node, ports, routes))])
        return MaterializedArtifacts.from_nodes(files)


def three_servers() -> Quorum:
    """Ready with any three servers, the smallest cluster that survives the loss of one."""
    return Quorum(NatsCluster(), at_least=3)


def _at(node: NodeRegistration, port: int) -> str:
    return f"[{node.ip}]:{port}" if ":" in node.ip else f"{node.ip}:{port}"


def _conf(node: NodeRegistration, ports: Ports, routes: list[str]) -> str:
    settings = {
        "server_name": node.identifier,
        "listen": _at(node, ports.client_port),
        # below the process's directory; never below out/current, which a new generation replaces
        "jetstream": {"store_dir": "data"},
        "cluster": {"name": "cfgsync", "listen": _at(node, ports.route_port), "routes": routes},
    }
    return json.dumps(settings, indent=2) + "\n"  # what NATS reads is a superset of JSON
