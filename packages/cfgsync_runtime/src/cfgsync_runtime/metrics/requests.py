"""What was asked and what became of it, counted around the handler table: integers on the way of a request, no library.

A library's histogram that is observed on each request costs 23 % (`speed.md`); a list, a bisection and two clock
readings cost what can hardly be measured. `metrics` reads this when it is asked.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from cfgsync_core import Call, Handler, InvalidRequest, Reply, failure, refusal

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0)
"""Upper bounds in seconds; a held `/node` takes up to 30 s by its own wish."""
_SUM: Final = len(BOUNDS) + 1
CANCELLED: Final = 499
"""The asker has gone before the answer; nothing with this status is ever sent."""

Cell: TypeAlias = list[float]
"""How many requests fell into each bucket, those beyond the last bound, and all their seconds together."""


class RequestCounts:
    """Counts every call of the handlers that went through `counted`. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._cells: dict[str, defaultdict[int, Cell]] = {}

    def counted(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """The same table; a failure comes back as the reply that it means."""
        return {name: self._counted(name, handler) for name, handler in handlers.items()}

    def cells(self) -> Iterator[tuple[str, int, list[int], float]]:
        """Route, status, requests in each bucket (one more than `BOUNDS`), seconds in total."""
        for route, by_status in self._cells.items():
            for status, cell in sorted(by_status.items()):
                yield route, status, [int(count) for count in cell[:_SUM]], cell[_SUM]

    def _counted(self, route: str, inner: Handler) -> Handler:
        clock = self._clock
        cells = self._cells[route] = defaultdict(lambda: [0] * (_SUM + 1))

        def count(status: int, seconds: float) -> None:
            cell = cells[status]
            cell[bisect_left(BOUNDS, seconds)] += 1
            cell[_SUM] += seconds

        async def handler(call: Call) -> Reply:
            began = clock()
            try:
                reply = await inner(call)
            except asyncio.CancelledError:
                count(CANCELLED, clock() - began)
                raise
            except InvalidRequest as error:
                reply = refusal(error.status, "invalid_request", str(error))
            except Exception as error:
                reply = failure(error)
            count(reply.status, clock() - began)
            return reply

        return handler
