"""The application's materializer in a test: its last exception is kept, so that a test fails with the application's
traceback and not with the message that a node would get."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from cfgsync_adapter import MaterializationResult, RegistrationSnapshot, RegistrationSnapshotMaterializer


class ObservedMaterializer:
    """Returns what `inner` returns. `failure` is the exception of the last run, or None, and `runs` counts the runs.
    `on_failure` is called, in the thread of the run, with the names that the run saw."""

    def __init__(self, inner: RegistrationSnapshotMaterializer) -> None:
        self.inner = inner
        self.revision = str(getattr(inner, "revision", ""))
        self.failure: Exception | None = None
        self.runs = 0
        self.on_failure: Callable[[frozenset[str]], object] = lambda _: None

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        """See `RegistrationSnapshotMaterializer`."""
        self.runs += 1
        try:
            result = self.inner.materialize_snapshot(registrations)
        except Exception as error:
            self._failed(error, registrations)
            raise
        if inspect.isawaitable(result):
            return self._awaited(result, registrations)
        self.failure = None
        return result

    async def _awaited(
        self, result: Awaitable[MaterializationResult], registrations: RegistrationSnapshot
    ) -> MaterializationResult:
        try:
            answer = await result
        except Exception as error:
            self._failed(error, registrations)
            raise
        self.failure = None
        return answer

    def _failed(self, error: Exception, registrations: RegistrationSnapshot) -> None:
        self.failure = error
        self.on_failure(frozenset(node.identifier for node in registrations))
