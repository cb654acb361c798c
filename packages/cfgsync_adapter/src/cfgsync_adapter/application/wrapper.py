"""What all wrappers around a materializer do alike: its `revision`, `expected_nodes` and `documents` show through, sync or
async."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from cfgsync_core import DocumentsSnapshot

from .materializer import (
    MaterializationResult,
    SnapshotMaterializer,
    called,
    documents_of,
    expected_nodes,
    refuse_no_materializer,
)
from .snapshot import RegistrationSnapshot

Result: TypeAlias = MaterializationResult | Awaitable[MaterializationResult]


class Wrapper:
    """A materializer that calls `inner`. Raises `TypeError` for what is no materializer."""

    def __init__(self, inner: SnapshotMaterializer) -> None:
        refuse_no_materializer(inner, type(self).__name__)
        self._inner = inner

    @property
    def revision(self) -> str:
        return str(getattr(self._inner, "revision", ""))

    @property
    def expected_nodes(self) -> tuple[str, ...]:
        return expected_nodes(self._inner)

    @property
    def documents(self) -> str:
        return documents_of(self._inner)

    def _called(self, registrations: RegistrationSnapshot, documents: DocumentsSnapshot | None) -> Result:
        return called(self._inner, registrations, documents)


def passed_through(result: Result, through: Callable[[MaterializationResult], Result]) -> Result:
    """`through(result)`, now or when the result is there."""
    return _later(result, through) if inspect.isawaitable(result) else through(result)


async def _later(
    result: Awaitable[MaterializationResult], through: Callable[[MaterializationResult], Result]
) -> MaterializationResult:
    done = through(await result)
    return await done if inspect.isawaitable(done) else done
