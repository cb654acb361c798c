"""The operator's routes, with what `/openapi.json` says of each."""

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
    """A node's own files in place of the materializer's; none of them, and the materializer's come back."""

    identifier: str
    files: list[File] = []


class Generations(msgspec.Struct):
    """The heads that are kept, newest first; of those with `contents` the files are held too."""

    generations: list[GenerationSummary]


_NUMBER: Final = {
    "description": "the number of a generation whose files are held; any other is 422, an empty one is as none",
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}],
}
_PAGE: Final = {
    "limit": {"description": "1 to 1000; another word counts as 1000", "type": "string"},
    "after": {"description": "the `next` of the page before", "type": "string"},
}

_RENEW: Final = Operation(
    "Make one new generation of all nodes; held for `wait` seconds (at most 30) until its run has ended",
    {"200": Response((Renewed,)), "202": Response((Renewed,))},
    "400 403 413 415 422 500 503 507",
    Renew,
    {"wait": {"description": "seconds; another word counts as 30", "type": "string"}},
)
_GENERATIONS: Final = Operation(
    "The generations that are kept; with `number` the nodes of one; with `from` and `to` what is not the same in two",
    {"200": Response((Generations, GenerationPage, DiffPage))},
    "400 403 422 503",
    query={
        "number": _NUMBER,
        "contents": {"description": "1 tells the contents of text files", "type": "string"},
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
    "Give one node files of its own, from the next generation on; without files, and with `Cfgsync-Replacement: none` in"
    " the answer, there were none to take away",
    {"202": Response(description="done, durably")},
    "400 403 413 415 422 503 507",
    Replacement,
)


def operator_routes(source: RegistrationConfigSource) -> list[Route]:
    """The operator's half of one server."""
    does = OperatorHandlers(source)
    renew, replacement = Body(RequestBody(Renew).decode), Body(decode_replacement, MAX_REPLACEMENT_BYTES)
    return [
        Route("POST", "/admin/renew", does.renew, "renew", "operator", renew, _RENEW),
        Route(
            "GET", "/admin/generations", does.generations, "generations", "operator", operation=_GENERATIONS
        ),
        Route("GET", "/admin/snapshot", does.snapshot, "snapshot", "operator", operation=_SNAPSHOT),
        Route("POST", "/node/replace", does.replace, "replace", "operator", replacement, _REPLACE),
    ]
