"""An equal snapshot is never materialized twice, unless it was not ready: readiness may depend on time."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable

from .materializer import (
    MaterializationResult,
    MaterializedArtifacts,
    RegistrationSnapshotMaterializer,
    expected_nodes,
    refuse_no_materializer,
)
from .snapshot import RegistrationSnapshot


class CachedSnapshotMaterializer:
    """Keeps the last artifacts of `inner`, and returns them for a snapshot with equal entries."""

    def __init__(self, inner: RegistrationSnapshotMaterializer) -> None:
        refuse_no_materializer(inner, "CachedSnapshotMaterializer")
        self._inner = inner
        self._kept: tuple[RegistrationSnapshot, MaterializedArtifacts] | None = None

    @property
    def revision(self) -> str:
        return str(getattr(self._inner, "revision", ""))

    @property
    def expected_nodes(self) -> tuple[str, ...]:
        return expected_nodes(self._inner)

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        if self._kept is not None and self._kept[0] == registrations:
            return self._kept[1]
        result = self._inner.materialize_snapshot(registrations)
        return (
            self._keep_later(registrations, result)
            if inspect.isawaitable(result)
            else self._keep(registrations, result)
        )

    async def _keep_later(
        self, registrations: RegistrationSnapshot, result: Awaitable[MaterializationResult]
    ) -> MaterializationResult:
        return self._keep(registrations, await result)

    def _keep(
        self, registrations: RegistrationSnapshot, result: MaterializationResult
    ) -> MaterializationResult:
        if isinstance(result, MaterializedArtifacts):
            self._kept = (registrations, result)
        return result
