"""The view that a query selects, and its data."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Final

from cfgsync_adapter import Generation, RegistrationConfigSource
from cfgsync_adapter.status import difference_page, generation_page, generation_summaries, node_contents
from cfgsync_core.server import Call, Reply, page_of
from cfgsync_core.wire import StatusSource

from .assets import assets
from .document import document
from .formatting import crumbs, section
from .grid import grid_data
from .history import difference_view, generation_view
from .markup import Markup, el
from .node import NodeFiles, node_view
from .overview import overview, title_of
from .scan import LETTERS, FleetScan, FleetScanner
from .table import NodeTable

_Sections = Callable[[], list[Markup]]

ROWS: Final = 100
"""Nodes in the table at a time."""
CHANGED: Final = 50
"""Nodes at a time of what changed between two generations."""
MAX_NAME: Final = 200
CONTENTS: Final = ("operator", "reader")
"""The callers that may see what is in a file, and what a node registered."""


class Views:
    """Answers `GET /`: the fleet from `status`, its generations from `source`."""

    def __init__(self, status: StatusSource, source: RegistrationConfigSource | None) -> None:
        self._status = status
        self._source = source
        self._scanner = FleetScanner(status)
        self._making = asyncio.Lock()
        self._made: tuple[FleetScan, str, str, Reply] | None = None

    async def answer(self, call: Call) -> Reply:
        """HTML, or the data of the grid for a reader that accepts JSON and not HTML."""
        accept = call.headers.get("Accept", "")
        if "application/json" in accept and "text/html" not in accept:
            fleet = await self._scanner.scan()
            data = await asyncio.to_thread(grid_data, fleet, static=self._source is None)
            return Reply(200, (data,), {**assets().headers, "Content-Type": "application/json"})
        query, after, operator = call.query, page_of(call.query)[1], call.principal.role in CONTENTS
        if "node" in query:
            return await self._node(query["node"][:MAX_NAME], operator)
        if self._source is not None and "generation" in query:
            return await self._generation(self._source, query, after)
        if self._source is not None and ("from" in query or "to" in query):
            return await self._difference(self._source, query, after, operator)
        return await self._overview(query.get("state", ""), after)

    async def _overview(self, state: str, after: str) -> Reply:
        fleet = await self._scanner.scan()
        state = state if state in LETTERS else ""
        async with self._making:  # all requests of one scan share one document
            if self._made is None or self._made[0] is not fleet or self._made[1:3] != (state, after):
                rows = self._rows(fleet, state, after)
                heads = None if self._source is None else generation_summaries(self._source.parts.publisher)
                title = title_of(fleet, static=heads is None)
                reply = await self._shown(title, lambda: overview(fleet, rows, heads))
                self._made = (fleet, state, after, reply)
            return self._made[3]

    def _rows(self, fleet: FleetScan, state: str, after: str) -> NodeTable:
        wanted = LETTERS[state] if state else "".join(LETTERS.values()).replace(LETTERS["not_registered"], "")
        names = [name for name, letter in zip(fleet.names, fleet.letters, strict=True) if letter in wanted]
        start = bisect_right(names, after) if after else 0
        page = names[start : start + ROWS]
        further = page[-1] if start + ROWS < len(names) else None
        if state:
            nodes = tuple(map(self._status.node, page))
        else:
            last = page[-1] if page else ""
            here = self._status.fleet(ROWS, after).nodes
            nodes = tuple(node for node in here if node.identifier <= last)
        return NodeTable(nodes, start, len(names), state, further)

    async def _node(self, name: str, operator: bool) -> Reply:
        node = self._status.node(name)
        source = self._source
        registration = files = None
        if source is not None and operator:
            registration = source.parts.registry.get(name)
        if source is not None and (current := source.generation) is not None:
            held = await asyncio.to_thread(node_contents, current, name, contents=operator)
            files = None if held is None else NodeFiles(current.text, *held)
        return await self._shown(
            name, lambda: node_view(node, registration, files, operator=operator, static=source is None)
        )

    async def _generation(
        self, source: RegistrationConfigSource, query: Mapping[str, str], after: str
    ) -> Reply:
        one = _held(source, query["generation"])
        if one is None:
            return await self._not_held(query["generation"])
        return await self._shown(
            f"Generation {one.number}",
            lambda: generation_view(generation_page(one, after=after, limit=ROWS), after),
        )

    async def _difference(
        self, source: RegistrationConfigSource, query: Mapping[str, str], after: str, operator: bool
    ) -> Reply:
        old, new = _held(source, query.get("from", "")), _held(source, query.get("to", ""))
        if old is None or new is None:
            return await self._not_held(query.get("from" if old is None else "to", ""))

        def made() -> list[Markup]:
            page = difference_page(old, new, since=after, limit=CHANGED)
            return difference_view(page, after, operator=operator)

        return await self._shown(f"From {old.number} to {new.number}", made)

    async def _not_held(self, number: str) -> Reply:
        view = section(
            "generation",
            crumbs("generation"),
            el("h1", f"The files of generation {number[:40] or '(none named)'} are not held"),
            el(
                "p",
                "The server holds those of the current generation and of the one before it.",
                class_="said",
            ),
        )
        return await self._shown("Not held", lambda: [view], 404)

    async def _shown(self, title: str, sections: _Sections, status: int = 200) -> Reply:
        live = self._source is not None
        made = await asyncio.to_thread(lambda: document(title, sections(), live=live))
        return Reply(status, (made,), assets().headers)


def _held(source: RegistrationConfigSource, number: str) -> Generation | None:
    is_number = number.isascii() and number.isdigit() and len(number) < 18
    return source.parts.publisher.numbered(int(number)) if is_number else None
