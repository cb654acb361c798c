"""An equal snapshot is never materialized twice, unless it was not ready: readiness may depend on time."""

from __future__ import annotations

from .materializer import MaterializationResult, MaterializedArtifacts, RegistrationSnapshotMaterializer
from .snapshot import RegistrationSnapshot
from .wrapper import Result, Wrapper, passed_through


class CachedSnapshotMaterializer(Wrapper):
    """Keeps the last artifacts of `inner`, and returns them for a snapshot with equal entries."""

    def __init__(self, inner: RegistrationSnapshotMaterializer) -> None:
        super().__init__(inner)
        self._kept: tuple[RegistrationSnapshot, MaterializedArtifacts] | None = None

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> Result:
        if self._kept is not None and self._kept[0] == registrations:
            return self._kept[1]

        def keep(result: MaterializationResult) -> MaterializationResult:
            if isinstance(result, MaterializedArtifacts):
                self._kept = (registrations, result)
            return result

        return passed_through(self._inner.materialize_snapshot(registrations), keep)
