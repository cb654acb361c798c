"""Materializers that the adapter's tests share: small, real, and steered by what is registered."""

from __future__ import annotations

import secrets

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NodeRegistration,
    NotReady,
    RegistrationSnapshot,
)


def node(name: str, ip: str = "10.0.0.1", **metadata: object) -> NodeRegistration:
    """A registration."""
    return NodeRegistration(name, ip).with_metadata(metadata or None)


def one_file_each(registrations: RegistrationSnapshot, note: str = "") -> MaterializedArtifacts:
    """`/peers` for each node: everybody that the snapshot holds, and a note."""
    peers = ",".join(registrations.identifiers)
    return MaterializedArtifacts.from_nodes(
        {r.identifier: ArtifactSet([ArtifactFile("/peers", f"{peers} {note}")]) for r in registrations}
    )


class ReadyAt:
    """Ready when `count` nodes are there; counts its runs and keeps what it saw."""

    def __init__(self, count: int, note: str = "") -> None:
        self.count = count
        self.note = note
        self.seen: list[tuple[str, ...]] = []

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        self.seen.append(registrations.identifiers)
        if len(registrations) < self.count:
            return NotReady(f"waiting for {self.count} nodes, have {len(registrations)}")
        return one_file_each(registrations, self.note)


class RandomKeys:
    """Draws a new key at every run, as a materializer that makes a genesis does."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        return one_file_each(registrations, secrets.token_hex(8))


class Obedient:
    """Does what the newest registrations' metadata says: fail, skip a node, be not ready."""

    def __init__(self) -> None:
        self.runs = 0

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        self.runs += 1
        for registration in registrations:
            words = registration.metadata or {}
            if "fail" in words:
                raise RuntimeError(words["fail"])
            if "not_ready" in words:
                return NotReady(words["not_ready"])
        keep = [r for r in registrations if not (r.metadata or {}).get("skip")]
        return one_file_each(RegistrationSnapshot(keep))
