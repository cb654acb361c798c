"""Requests by route and status, counted around the access rule in plain integers.

A library's histogram that is observed on each request costs 23 % of it (ADR 0012); a list, a bisection and two clock
readings cost next to nothing. `families` reads the integers at each scrape.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from cfgsync_core import InvalidRequest
from cfgsync_core.server import Access, Call, Reply, Route, failure, refusal

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0)
"""Upper bounds in seconds; a held `/node` may take 30 s."""
_SUM: Final = len(BOUNDS) + 1
CANCELLED: Final = 499
"""The caller hung up before the answer; no reply has this status."""

Cell: TypeAlias = list[float]
"""The number of requests in each bucket, beyond the last bound, and the sum of their seconds."""


class RequestCounts(Access):
    """An access rule whose replies, refusals too, are counted by route; a route without a name is not. `clock`: seconds."""

    def __init__(self, access: Access, clock: Callable[[], float] = time.perf_counter) -> None:
        self._access = access
        self._clock = clock
        self._cells: defaultdict[str, defaultdict[int, Cell]] = defaultdict(
            lambda: defaultdict(lambda: [0] * (_SUM + 1))
        )

    def cells(self) -> Iterator[tuple[str, int, list[int], float]]:
        """Route, status, requests in each bucket (one more than `BOUNDS`), seconds in total."""
        for route, by_status in self._cells.items():
            for status, cell in sorted(by_status.items()):
                yield route, status, [int(count) for count in cell[:_SUM]], cell[_SUM]

    def before_body(self, route: Route, call: Call) -> Reply | None:
        return self._access.before_body(route, call)

    def answered(self, route: Route, call: Call, reply: Reply | None) -> None:
        self._access.answered(route, call, reply)

    async def answer(self, route: Route, call: Call) -> Reply:
        """The same reply; a failure comes back as the reply that it means."""
        if not route.name:
            return await self._access.answer(route, call)
        began = self._clock()
        try:
            reply = await self._access.answer(route, call)
        except asyncio.CancelledError:
            self._count(route.name, CANCELLED, self._clock() - began)
            raise
        except InvalidRequest as error:
            reply = refusal(error.status, "invalid_request", str(error))
        except Exception as error:
            reply = failure(error)
        self._count(route.name, reply.status, self._clock() - began)
        return reply

    def _count(self, route: str, status: int, seconds: float) -> None:
        cell = self._cells[route][status]
        cell[bisect_left(BOUNDS, seconds)] += 1
        cell[_SUM] += seconds
