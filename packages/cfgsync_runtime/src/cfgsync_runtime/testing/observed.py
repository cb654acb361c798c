"""The application's materializer in a test. It keeps the last exception, so that a test fails with that traceback."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from cfgsync_adapter import MaterializationResult, RegistrationSnapshot, RegistrationSnapshotMaterializer
from cfgsync_adapter.application import expected_nodes


class ObservedMaterializer:
    """Returns what `inner` returns. `failure` is the exception of the last run, or None, and `runs` counts the runs.
    `on_failure` is called, in the thread of the run, with the names that the run saw."""

    def __init__(self, inner: RegistrationSnapshotMaterializer) -> None:
        self.inner = inner
        self.revision = str(getattr(inner, "revision", ""))
        self.expected_nodes = expected_nodes(inner)
        self.failure: Exception | None = None
        self.runs = 0
        self.on_failure: Callable[[frozenset[str]], object] = lambda _: None

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        """See `RegistrationSnapshotMaterializer`."""
        self.runs += 1
        with self._observed(registrations):
            result = self.inner.materialize_snapshot(registrations)
        if inspect.isawaitable(result):
            return self._awaited(result, registrations)
        self.failure = None
        return result

    async def _awaited(
        self, awaitable: Awaitable[MaterializationResult], registrations: RegistrationSnapshot
    ) -> MaterializationResult:
        with self._observed(registrations):
            result = await awaitable
        self.failure = None
        return result

    @contextmanager
    def _observed(self, registrations: RegistrationSnapshot) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = error
            self.on_failure(frozenset(node.identifier for node in registrations))
            raise
