"""What all wrappers around a materializer do alike: its `revision` and `expected_nodes` show through, sync or async."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from .materializer import (
    MaterializationResult,
    RegistrationSnapshotMaterializer,
    expected_nodes,
    refuse_no_materializer,
)

Result: TypeAlias = MaterializationResult | Awaitable[MaterializationResult]


class Wrapper:
    """A materializer that calls `inner`. Raises `TypeError` for what is no materializer."""

    def __init__(self, inner: RegistrationSnapshotMaterializer) -> None:
        refuse_no_materializer(inner, type(self).__name__)
        self._inner = inner

    @property
    def revision(self) -> str:
        return str(getattr(self._inner, "revision", ""))

    @property
    def expected_nodes(self) -> tuple[str, ...]:
        return expected_nodes(self._inner)


def passed_through(result: Result, through: Callable[[MaterializationResult], Result]) -> Result:
    """`through(result)`, now or when the result is there."""
    return _later(result, through) if inspect.isawaitable(result) else through(result)


async def _later(
    result: Awaitable[MaterializationResult], through: Callable[[MaterializationResult], Result]
) -> MaterializationResult:
    done = through(await result)
    return await done if inspect.isawaitable(done) else done
