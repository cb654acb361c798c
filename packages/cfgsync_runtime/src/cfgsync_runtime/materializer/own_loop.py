"""An `async def` materializer runs on an event loop of its own, in the thread of the call: it may block that thread."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from cfgsync_adapter import (
    DocumentsSnapshot,
    MaterializationResult,
    RegistrationSnapshot,
    SnapshotMaterializer,
)
from cfgsync_adapter.application import Wrapper

if TYPE_CHECKING:
    import asyncio


class OwnLoop(Wrapper):
    """Calls `inner`, and returns its result. Raises what it raises. The loop is kept: a session that the application opened
    in one run serves the next one. One call at a time, from any thread without a running loop."""

    def __init__(self, inner: SnapshotMaterializer) -> None:
        super().__init__(inner)
        self._runner: asyncio.Runner | None = None

    def materialize_snapshot(
        self, registrations: RegistrationSnapshot, documents: DocumentsSnapshot | None = None
    ) -> MaterializationResult:
        """See `RegistrationSnapshotMaterializer`."""
        result = self._called(registrations, documents)
        return self._awaited(result) if inspect.isawaitable(result) else result

    def _awaited(self, awaitable: Awaitable[MaterializationResult]) -> MaterializationResult:
        import asyncio

        raised: BaseException | None = None

        async def settled() -> MaterializationResult | None:
            nonlocal raised
            try:
                return await awaitable
            except (
                BaseException
            ) as error:  # SystemExit and KeyboardInterrupt would break the loop for the next run
                raised = error
                return None

        if self._runner is None:
            self._runner = asyncio.Runner()
        result = self._runner.run(settled())
        if raised is not None:
            raise raised
        return result  # type: ignore[return-value]  # `checked` refuses a None of the application
