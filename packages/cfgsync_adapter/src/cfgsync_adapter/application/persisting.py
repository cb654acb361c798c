"""The sink gets the artifacts before any node is served from them; when it fails, the run fails."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable

from .materializer import (
    MaterializationResult,
    MaterializedArtifacts,
    MaterializedArtifactsSink,
    RegistrationSnapshotMaterializer,
    expected_nodes,
    refuse_no_materializer,
    refuse_no_sink,
)
from .snapshot import RegistrationSnapshot


class PersistingSnapshotMaterializer:
    """Gives `sink` the artifacts of `inner` before it returns them, once for each different snapshot in a row;
    not in a dry run (`cfgsync check`).

    To receive exactly what is served, also after a crash, pass the sink outside instead:
    `serve_snapshot_cfgsync(…, sink=…)`.
    """

    def __init__(self, inner: RegistrationSnapshotMaterializer, sink: MaterializedArtifactsSink) -> None:
        refuse_no_materializer(inner, "PersistingSnapshotMaterializer")
        refuse_no_sink(sink, "PersistingSnapshotMaterializer")
        self._inner = inner
        self._sink = sink
        self._persisted: RegistrationSnapshot | None = None

    @property
    def revision(self) -> str:
        return str(getattr(self._inner, "revision", ""))

    @property
    def expected_nodes(self) -> tuple[str, ...]:
        return expected_nodes(self._inner)

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        result = self._inner.materialize_snapshot(registrations)
        return (
            self._later(registrations, result)
            if inspect.isawaitable(result)
            else self._keep(registrations, result)
        )

    async def _later(
        self, registrations: RegistrationSnapshot, result: Awaitable[MaterializationResult]
    ) -> MaterializationResult:
        kept = self._keep(registrations, await result)
        return await kept if inspect.isawaitable(kept) else kept

    def _keep(
        self, registrations: RegistrationSnapshot, result: MaterializationResult
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        if (
            isinstance(result, MaterializedArtifacts)
            and not registrations.dry_run
            and self._persisted != registrations
        ):
            done = self._sink.persist(result)
            if inspect.isawaitable(done):
                return self._finish(registrations, result, done)
            self._persisted = registrations
        return result

    async def _finish(
        self, registrations: RegistrationSnapshot, result: MaterializationResult, done: Awaitable[None]
    ) -> MaterializationResult:
        await done
        self._persisted = registrations
        return result
