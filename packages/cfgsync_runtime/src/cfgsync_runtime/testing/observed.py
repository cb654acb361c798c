"""The application's materializer as a test sees it: what it raised last is kept, so that a test fails with the traceback
of the application and not with the sentence that a node would be told."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from cfgsync_adapter import MaterializationResult, RegistrationSnapshot, RegistrationSnapshotMaterializer


class ObservedMaterializer:
    """Asks `inner` and answers as it does. `failure` is what the last run raised, None when it raised nothing, and
    `runs` counts them. `on_failure` is called, in the thread of the run, with the names that the run saw."""

    def __init__(self, inner: RegistrationSnapshotMaterializer) -> None:
        self.inner = inner
        self.revision = str(getattr(inner, "revision", ""))
        self.failure: Exception | None = None
        self.runs = 0
        self.on_failure: Callable[[frozenset[str]], object] = lambda _: None

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        """As `inner` decides."""
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
