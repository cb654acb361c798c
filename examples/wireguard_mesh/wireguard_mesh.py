"""A WireGuard mesh: every node draws its private key and registers only the public one; each pair's key is drawn here.

A node gets `/wg0.conf`, mode 0600, with a preshared key for each of its peers; `/hosts` is for all to read.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from hashlib import sha256
from ipaddress import IPv6Address
from typing import Annotated

import msgspec

from cfgsync_adapter import (
    ArtifactFile,
    MaterializationResult,
    MaterializedArtifacts,
    NodeRegistration,
    Quorum,
    RegistrationSnapshot,
)


class Tells(msgspec.Struct):
    """The metadata of a node: `{"public_key": "<32 bytes as base64>", "port": 51820}`."""

    public_key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    port: int


class Mesh:
    """Each node is a peer of every other. Two nodes share a preshared key that no third one gets. It is drawn for their
    first common generation, and again when one of them changes its public key. The server keeps published files, so a
    restart draws nothing; the first generation after a restart draws all preshared keys again."""

    def __init__(self) -> None:
        self._drawn: dict[frozenset[bytes], str] = {}

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        nodes = [(node, node.metadata_as(Tells)) for node in registrations]
        keys = [tells.public_key for _, tells in nodes]
        if len(set(keys)) != len(keys):
            twice = [node.identifier for node, tells in nodes if keys.count(tells.public_key) > 1]
            raise ValueError(f"these nodes have one public key: {', '.join(twice)}")
        files = {
            node.identifier: [
                ArtifactFile("/wg0.conf", self._conf(node, tells, nodes), mode="0600"),
            ]
            for node, tells in nodes
        }
        hosts = "".join(f"{address(node)} {node.identifier}\n" for node, _ in nodes)
        return MaterializedArtifacts.from_nodes(files).with_shared([ArtifactFile("/hosts", hosts)])

    def _conf(self, node: NodeRegistration, tells: Tells, nodes: list[tuple[NodeRegistration, Tells]]) -> str:
        # the private key is not here: it has never left the node
        lines = [
            "[Interface]",
            f"Address = {address(node)}/128",
            f"ListenPort = {tells.port}",
            "PostUp = wg set %i private-key /etc/wireguard/%i.key",
        ]
        for peer, theirs in nodes:
            if peer is node:
                continue
            lines += [
                "",
                f"[Peer]  # {peer.identifier}",
                f"PublicKey = {b64encode(theirs.public_key).decode()}",
                f"PresharedKey = {self._between(tells.public_key, theirs.public_key)}",
                f"AllowedIPs = {address(peer)}/128",
                f"Endpoint = {f'[{peer.ip}]' if ':' in peer.ip else peer.ip}:{theirs.port}",
            ]
        return "\n".join([*lines, ""])

    def _between(self, one: bytes, other: bytes) -> str:
        pair = frozenset((one, other))
        if pair not in self._drawn:
            self._drawn[pair] = b64encode(secrets.token_bytes(32)).decode()
        return self._drawn[pair]


def mesh() -> Quorum:
    """Ready with any three nodes; later nodes are added."""
    return Quorum(Mesh(), at_least=3)


def address(node: NodeRegistration) -> IPv6Address:
    """Its address in the mesh: made from its name, so no address changes when a node joins."""
    return IPv6Address(b"\xfd\x77" + bytes(6) + sha256(node.identifier.encode()).digest()[:8])
