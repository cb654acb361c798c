"""What the measured servers decide: cheap on purpose, so that a figure is the server's and not the application's."""

from __future__ import annotations

import os

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationSnapshot,
)

NODES = "BENCH_NODES"
"""Environment: how many registrations make it ready."""
TELLER = "teller"
FILE_BYTES = 4096
_FILLING = "x" * (FILE_BYTES - 64)


SHARED_BYTES = 1024 * 1024


def file_of(identifier: str) -> ArtifactSet:
    """About 4 KiB, distinct for each node."""
    return ArtifactSet([ArtifactFile("/config.yaml", f"id: {identifier}\nfilling: {_FILLING}\n")])


class Fleet:
    """Ready when as many nodes have registered as the environment says; until then it reads `len` only."""

    def __init__(self) -> None:
        self._need = int(os.environ[NODES])

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        have = len(registrations)
        if have < self._need:
            return NotReady(f"waiting for {self._need} nodes, have {have}")
        return MaterializedArtifacts.from_nodes(
            {identifier: file_of(identifier) for identifier in registrations.identifiers}
        )


class Told:
    """Everybody but the teller gets about 4 KiB that begin with what the teller said last."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        said = next((r.metadata for r in registrations if r.identifier == TELLER), None)
        names = [name for name in registrations.identifiers if name != TELLER]
        if said is None or not names:
            return NotReady("nobody tells, or nobody hears")
        return MaterializedArtifacts.from_nodes(
            {
                name: ArtifactSet(
                    [ArtifactFile("/config.yaml", f"{said}\nid: {name}\nfilling: {_FILLING}\n")]
                )
                for name in names
            }
        )


class Sharing(Fleet):
    """As `Fleet`, and everybody gets one more file, the same 1 MiB."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        decided = super().materialize_snapshot(registrations)
        if isinstance(decided, NotReady):
            return decided
        return decided.with_shared([ArtifactFile("/shared.txt", "s" * SHARED_BYTES)])
