"""A cluster of etcd: each member gets its flags, with the peer URLs of all. The boss says with how many members it begins, and
what flag all of them get on top."""

from __future__ import annotations

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationSnapshot,
)


class EtcdCluster:
    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        said = {node.identifier: node.metadata for node in registrations}
        boss = said.pop("boss", None)
        if not isinstance(boss, dict) or len(said) < boss["size"]:
            return NotReady("not all members are here")
        peers = {name: f"http://127.0.0.1:{ports['peer']}" for name, ports in said.items()}
        cluster = ",".join(f"{name}={url}" for name, url in sorted(peers.items()))
        made = {}
        for name, ports in said.items():
            client = f"http://127.0.0.1:{ports['client']}"
            flags = [
                f"--name={name}",
                f"--data-dir={name}.etcd",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peers[name]}",
                f"--initial-advertise-peer-urls={peers[name]}",
                f"--initial-cluster={cluster}",
                f"--initial-cluster-state={ports.get('state', 'new')}",
                *boss.get("flags", ()),
            ]
            made[name] = ArtifactSet([ArtifactFile("/flags", "\n".join(flags) + "\n")])
        return MaterializedArtifacts.from_nodes(made)
