"""The application's materializer in a test. It keeps the last exception, so that a test fails with that traceback."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from cfgsync_adapter import (
    DocumentsSnapshot,
    MaterializationResult,
    RegistrationSnapshot,
    SnapshotMaterializer,
)
from cfgsync_adapter.application import called, documents_of, expected_nodes
from cfgsync_adapter.generations import checked


class ObservedMaterializer:
    """Returns what `inner` returns. `failure` is what made the last run fail, or None: what `inner` raised, or what is wrong
    with its result. `runs` counts the runs."""

    def __init__(self, inner: SnapshotMaterializer) -> None:
        self.inner = inner
        self.revision = str(getattr(inner, "revision", ""))
        self.expected_nodes = expected_nodes(inner)
        self.documents = documents_of(inner)
        self.failure: BaseException | None = None
        self.runs = 0
        self._watching: set[Callable[[RegistrationSnapshot, BaseException], object]] = set()

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot, documents: DocumentsSnapshot | None = None
    ) -> MaterializationResult | Awaitable[MaterializationResult]:
        """See `RegistrationSnapshotMaterializer`."""
        self.runs += 1
        with self._observed(registrations):
            result = called(self.inner, registrations, documents)
            if not inspect.isawaitable(result):
                checked(result)
        if inspect.isawaitable(result):
            return self._awaited(result, registrations)
        self.failure = None
        return result

    @contextmanager
    def on_failure(self, call: Callable[[RegistrationSnapshot, BaseException], object]) -> Iterator[None]:
        """Call `call`, in the thread of the run, with what each run saw that fails, and why it does."""
        self._watching.add(call)
        try:
            yield
        finally:
            self._watching.discard(call)

    async def _awaited(
        self, awaitable: Awaitable[MaterializationResult], registrations: RegistrationSnapshot
    ) -> MaterializationResult:
        with self._observed(registrations):
            result = await awaitable
            checked(result)
        self.failure = None
        return result

    @contextmanager
    def _observed(self, registrations: RegistrationSnapshot) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # SystemExit and CancelledError are failed runs, too
            self.failure = error
            for call in tuple(self._watching):
                call(registrations, error)
            raise
