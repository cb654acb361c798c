"""The operator's routes, with the description of each in `/openapi.json`."""

from __future__ import annotations

from typing import Final

import msgspec

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_adapter.status import DiffPage, GenerationPage, GenerationSummary
from cfgsync_core.server import Body, Operation, Response, Route
from cfgsync_core.wire import MAX_REPLACEMENT_BYTES, File, RequestBody, decode_replacement

from .handlers import OperatorHandlers, Renew, Renewed
from .recording import SnapshotPage


class Replacement(msgspec.Struct):
    """A node's own files, instead of those from the materializer; without files, those from the materializer again."""

    identifier: str
    files: list[File] = []


class Generations(msgspec.Struct):
    """The generations that are kept, newest first; with `contents` also their files are."""

    generations: list[GenerationSummary]


_NUMBER: Final = {
    "description": "the number of a generation whose files are held; any other is 422, an empty one counts as absent",
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}],
}
_PAGE: Final = {
    "limit": {"description": "1 to 1000; anything else counts as 1000", "type": "string"},
    "after": {"description": "the `next` of the page before", "type": "string"},
}

_RENEW: Final = Operation(
    "Make one new generation of all nodes; held for `wait` seconds (at most 30) until its run has ended",
    {"200": Response((Renewed,)), "202": Response((Renewed,))},
    "400 403 413 415 422 500 503 507",
    Renew,
    {"wait": {"description": "seconds; anything else counts as 30", "type": "string"}},
)
_GENERATIONS: Final = Operation(
    "The generations that are kept; with `number` the nodes of one; with `from` and `to` the difference between two",
    {"200": Response((Generations, GenerationPage, DiffPage))},
    "400 403 422 503",
    query={
        "number": _NUMBER,
        "contents": {"description": "1 adds the contents of text files", "type": "string"},
        "from": _NUMBER,
        "to": _NUMBER,
        **_PAGE,
    },
)
_SNAPSHOT: Final = Operation(
    "The registrations and the served generation as one cut, in pages",
    {"200": Response((SnapshotPage,))},
    "400 403 404 503",
    query={"cut": {"description": "the `cut` of the page before", "type": "string"}, **_PAGE},
)
_REPLACE: Final = Operation(
    "Replace one node's own files, from the next generation on; without files, end that. `Cfgsync-Replacement: none` in"
    " the answer: the node has no replacement",
    {"202": Response(description="done, durably")},
    "400 403 413 415 422 503 507",
    Replacement,
)


def operator_routes(source: RegistrationConfigSource) -> list[Route]:
    """The operator's routes of one server."""
    handlers = OperatorHandlers(source)
    renew, replacement = Body(RequestBody(Renew).decode), Body(decode_replacement, MAX_REPLACEMENT_BYTES)
    return [
        Route("POST", "/admin/renew", handlers.renew, "renew", "operator", renew, _RENEW),
        Route(
            "GET",
            "/admin/generations",
            handlers.generations,
            "generations",
            "operator",
            operation=_GENERATIONS,
        ),
        Route("GET", "/admin/snapshot", handlers.snapshot, "snapshot", "operator", operation=_SNAPSHOT),
        Route("POST", "/node/replace", handlers.replace, "replace", "operator", replacement, _REPLACE),
    ]
