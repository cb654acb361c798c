"""What the operator's routes take and answer, as `/openapi.json` says it: the Structs that are their words."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from cfgsync_adapter import DiffPage, GenerationPage, GenerationSummary
from cfgsync_core import Operation

from .handlers import Renew, Renewed
from .recording import SnapshotPage


class File(msgspec.Struct):
    """One file. Absent, `mode` is 0644 and `encoding` text."""

    path: str
    content: str
    mode: Annotated[str, msgspec.Meta(pattern="^0[0-7]{3}$")] = "0644"
    encoding: str = "text"


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

OPERATIONS: Final = (
    Operation(
        "/admin/renew",
        "post",
        "Make one new generation of everybody; held for `wait` seconds (at most 30) until its run has ended",
        {"200": (Renewed,), "202": (Renewed,)},
        "400 403 413 415 422 500 503 507",
        body=Renew,
        query={"wait": {"description": "seconds; another word counts as 30", "type": "string"}},
    ),
    Operation(
        "/admin/generations",
        "get",
        "The generations that are kept; with `number` the nodes of one; with `from` and `to` what is not the same in two",
        {"200": (Generations, GenerationPage, DiffPage)},
        "400 403 422 503",
        query={
            "number": _NUMBER,
            "contents": {"description": "1 tells the contents of text files", "type": "string"},
            "from": _NUMBER,
            "to": _NUMBER,
            **_PAGE,
        },
    ),
    Operation(
        "/admin/snapshot",
        "get",
        "The registrations and the served generation as one cut, in pages",
        {"200": (SnapshotPage,)},
        "400 403 404 503",
        query={"cut": {"description": "the `cut` of the page before", "type": "string"}, **_PAGE},
    ),
    Operation(
        "/node/replace",
        "post",
        "Give one node files of its own, from the next generation on; without files, and with `Cfgsync-Replacement: none` in"
        " the answer, there were none to take away",
        {"202": None},
        "400 403 413 415 422 503 507",
        body=Replacement,
    ),
)
