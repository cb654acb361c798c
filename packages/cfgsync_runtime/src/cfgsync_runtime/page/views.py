"""The view that a query selects, and its data."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from cfgsync_adapter import Generation, RegistrationConfigSource
from cfgsync_adapter.status import difference_page, generation_page, generation_summaries, node_contents
from cfgsync_core.server import CONTENTS, Call, Reply, page_of
from cfgsync_core.wire import NODE_STATES, NodeDetails, StatusSource

from .assets import assets
from .document import document
from .formatting import crumbs, section
from .grid import grid_data
from .history import difference_view, generation_view
from .markup import Markup, el
from .node import NodeFiles, node_view
from .overview import overview, title_of
from .scan import FleetScan, FleetScanner, Place
from .table import NodeRow, NodeTable

_Sections = Callable[[], list[Markup]]

ROWS: Final = 25
"""Nodes in the table at a time."""
CHANGED: Final = 50
"""Nodes at a time of what changed between two generations."""
MAX_NAME: Final = 200


class Wanted(msgspec.Struct, frozen=True):
    """What the table of the first view shows: the nodes in `state` with `find` in their text, after the place `after`."""

    state: str
    find: str
    after: str


class Views:
    """Answers `GET /`: the fleet from `status`, its generations from `source`, what a node registered and is given from
    `details`. `title` is the name of the fleet; `has_login`: there is `/login`, `has_documents`: `/documents`."""

    def __init__(
        self,
        status: StatusSource,
        source: RegistrationConfigSource | None,
        details: NodeDetails | None = None,
        title: str = "",
        has_login: bool = False,
        has_documents: bool = False,
    ) -> None:
        self._status = status
        self._source = source
        self._details = source if details is None else details
        self._title = title
        self._has_login = has_login
        self._has_documents = has_documents
        self._scanner = FleetScanner(status, self._address)
        self._making = asyncio.Lock()
        self._made: tuple[FleetScan, Wanted, Reply] | None = None

    async def answer(self, call: Call) -> Reply:
        """HTML, or the data of the grid for a reader that accepts JSON and not HTML."""
        accept = call.headers.get("Accept", "")
        if "application/json" in accept and "text/html" not in accept:
            fleet = await self._scanner.scan()
            data = await asyncio.to_thread(grid_data, fleet)
            return Reply(200, (data,), {**assets().headers, "Content-Type": "application/json"})
        query, after, operator = call.query, page_of(call.query)[1], call.principal.role in CONTENTS
        if "node" in query:
            return await self._node(query["node"][:MAX_NAME], operator)
        if self._source is not None and "generation" in query:
            return await self._generation(self._source, query, after)
        if self._source is not None and ("from" in query or "to" in query):
            return await self._difference(self._source, query, after, operator)
        state = query.get("state", "")
        find = query.get("find", "")[:MAX_NAME].strip().lower()
        return await self._overview(Wanted(state if state in NODE_STATES else "", find, after))

    async def _overview(self, wanted: Wanted) -> Reply:
        fleet = await self._scanner.scan()
        async with self._making:  # all requests of one scan share one document
            if self._made is None or self._made[0] is not fleet or self._made[1] != wanted:
                nodes = await self._nodes(fleet, wanted)
                parts = None if self._source is None else self._source.parts
                heads = None if parts is None else generation_summaries(parts.publisher, parts.turns)
                title = title_of(fleet, static=heads is None)
                reply = await self._shown(title, lambda: overview(fleet, nodes, heads))
                self._made = (fleet, wanted, reply)
            return self._made[2]

    async def _nodes(self, fleet: FleetScan, wanted: Wanted) -> NodeTable:
        places = await asyncio.to_thread(fleet.places, wanted.state, wanted.find)
        start = bisect_right(places, Place.parse(wanted.after))
        page = places[start : start + ROWS]
        further = str(page[-1]) if start + ROWS < len(places) else None
        rows = [NodeRow(self._status.node(place.name), self._address(place.name)) for place in page]
        return NodeTable(rows, start, len(places), wanted.state, wanted.find, further)

    def _address(self, name: str) -> str | None:
        known = None if self._details is None else self._details.registration(name)
        return None if known is None else known.ip

    async def _node(self, name: str, operator: bool) -> Reply:
        node = self._status.node(name)
        registration = files = None
        if self._details is not None:
            registration, given = self._details.registration(name), self._details.given(name)
            if given is not None:
                replaced = self._details.is_replaced(name)
                contents = await asyncio.to_thread(
                    node_contents, name, given.payload, replaced=replaced, contents=operator
                )
                files = NodeFiles(given.generation, *contents)
        static = self._source is None
        return await self._shown(
            name, lambda: node_view(node, registration, files, operator=operator, static=static)
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

    async def _shown(self, view: str, sections: _Sections, status: int = 200) -> Reply:
        made = await asyncio.to_thread(
            lambda: document(
                view,
                sections(),
                title=self._title,
                stream="" if self._source is None else "watch",
                has_login=self._has_login,
                has_documents=self._has_documents,
            )
        )
        return Reply(status, (made,), assets().headers)


def _held(source: RegistrationConfigSource, number: str) -> Generation | None:
    is_number = number.isascii() and number.isdigit() and len(number) < 18
    return source.parts.publisher.numbered(int(number)) if is_number else None
