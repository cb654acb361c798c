"""The sink gets the artifacts before any node is served from them; when it fails, the run fails."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable

from cfgsync_core import DocumentsSnapshot

from .materializer import (
    MaterializationResult,
    MaterializedArtifacts,
    MaterializedArtifactsSink,
    SnapshotMaterializer,
    refuse_no_sink,
)
from .snapshot import RegistrationSnapshot
from .wrapper import Result, Wrapper, passed_through


class PersistingSnapshotMaterializer(Wrapper):
    """Gives `sink` the artifacts of `inner` before it returns them, once for each different snapshot (and its documents) in a row;
    not in a dry run (`cfgsync check`).

    To receive exactly what is served, also after a crash, pass the sink outside instead:
    `serve_snapshot_cfgsync(…, sink=…)`.
    """

    def __init__(self, inner: SnapshotMaterializer, sink: MaterializedArtifactsSink) -> None:
        super().__init__(inner)
        refuse_no_sink(sink, "PersistingSnapshotMaterializer")
        self._sink = sink
        self._persisted: tuple[RegistrationSnapshot, DocumentsSnapshot | None] | None = None

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot, documents: DocumentsSnapshot | None = None
    ) -> Result:
        return passed_through(
            self._called(registrations, documents),
            lambda result: self._keep((registrations, documents), result),
        )

    def _keep(
        self, seen: tuple[RegistrationSnapshot, DocumentsSnapshot | None], result: MaterializationResult
    ) -> Result:
        if isinstance(result, MaterializedArtifacts) and not seen[0].dry_run and self._persisted != seen:
            done = self._sink.persist(result)
            if inspect.isawaitable(done):
                return self._finish(seen, result, done)
            self._persisted = seen
        return result

    async def _finish(
        self,
        seen: tuple[RegistrationSnapshot, DocumentsSnapshot | None],
        result: MaterializationResult,
        done: Awaitable[None],
    ) -> MaterializationResult:
        await done
        self._persisted = seen
        return result
