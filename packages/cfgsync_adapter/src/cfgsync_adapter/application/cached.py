"""An equal snapshot, with equal documents, is never materialized twice, unless it was not ready: readiness may depend on time."""

from __future__ import annotations

from cfgsync_core import DocumentsSnapshot

from .materializer import MaterializationResult, MaterializedArtifacts, SnapshotMaterializer
from .snapshot import RegistrationSnapshot
from .wrapper import Result, Wrapper, passed_through


class CachedSnapshotMaterializer(Wrapper):
    """Keeps the last artifacts of `inner`, and returns them for equal registrations and documents."""

    def __init__(self, inner: SnapshotMaterializer) -> None:
        super().__init__(inner)
        self._kept: tuple[RegistrationSnapshot, DocumentsSnapshot | None, MaterializedArtifacts] | None = None

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot, documents: DocumentsSnapshot | None = None
    ) -> Result:
        if self._kept is not None and self._kept[:2] == (registrations, documents):
            return self._kept[2]

        def keep(result: MaterializationResult) -> MaterializationResult:
            if isinstance(result, MaterializedArtifacts):
                self._kept = (registrations, documents, result)
            return result

        return passed_through(self._called(registrations, documents), keep)
