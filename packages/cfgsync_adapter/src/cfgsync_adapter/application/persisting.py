"""The sink has a Ready before anybody is served from it; a sink that fails makes the run fail."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable

from .materializer import (
    MaterializationResult,
    MaterializedArtifacts,
    MaterializedArtifactsSink,
    RegistrationSnapshotMaterializer,
)
from .snapshot import RegistrationSnapshot


class PersistingSnapshotMaterializer:
    """Gives `sink` each Ready of `inner` before it returns it, once per consecutive distinct snapshot in a process.

    To receive exactly what is served, also after a crash, pass the sink outside instead:
    `serve_snapshot_cfgsync(…, sink=…)`.
    """

    def __init__(self, inner: RegistrationSnapshotMaterializer, sink: MaterializedArtifactsSink) -> None:
        self._inner = inner
        self._sink = sink
        self._persisted: RegistrationSnapshot | None = None

    @property
    def revision(self) -> str:
        return str(getattr(self._inner, "revision", ""))

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        result = self._inner.materialize_snapshot(registrations)
        if inspect.isawaitable(result):
            return self._persist_later(registrations, result)
        if not isinstance(result, MaterializedArtifacts) or self._persisted == registrations:
            return result
        done = self._sink.persist(result)
        if inspect.isawaitable(done):
            return self._finish(registrations, result, done)
        self._persisted = registrations
        return result

    async def _persist_later(
        self, registrations: RegistrationSnapshot, awaited: Awaitable[MaterializationResult]
    ) -> MaterializationResult:
        result = await awaited
        if isinstance(result, MaterializedArtifacts) and self._persisted != registrations:
            done = self._sink.persist(result)
            if inspect.isawaitable(done):
                await done
            self._persisted = registrations
        return result

    async def _finish(
        self, registrations: RegistrationSnapshot, result: MaterializationResult, done: Awaitable[None]
    ) -> MaterializationResult:
        await done
        self._persisted = registrations
        return result
