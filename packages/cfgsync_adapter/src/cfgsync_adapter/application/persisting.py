"""The sink gets the artifacts before any node is served from them; when it fails, the run fails."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable

from .materializer import (
    MaterializationResult,
    MaterializedArtifacts,
    MaterializedArtifactsSink,
    RegistrationSnapshotMaterializer,
    refuse_no_sink,
)
from .snapshot import RegistrationSnapshot
from .wrapper import Result, Wrapper, passed_through


class PersistingSnapshotMaterializer(Wrapper):
    """Gives `sink` the artifacts of `inner` before it returns them, once for each different snapshot in a row;
    not in a dry run (`cfgsync check`).

    To receive exactly what is served, also after a crash, pass the sink outside instead:
    `serve_snapshot_cfgsync(…, sink=…)`.
    """

    def __init__(self, inner: RegistrationSnapshotMaterializer, sink: MaterializedArtifactsSink) -> None:
        super().__init__(inner)
        refuse_no_sink(sink, "PersistingSnapshotMaterializer")
        self._sink = sink
        self._persisted: RegistrationSnapshot | None = None

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> Result:
        return passed_through(
            self._inner.materialize_snapshot(registrations), lambda result: self._keep(registrations, result)
        )

    def _keep(self, registrations: RegistrationSnapshot, result: MaterializationResult) -> Result:
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
