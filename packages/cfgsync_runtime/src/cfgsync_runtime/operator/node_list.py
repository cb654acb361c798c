"""`GET /admin/nodes`: what `/status` says of each node, with what an operator may know besides: address, metadata, files.

Of a secret (a file that only its owner may read) neither size nor digest is shown: a guess could be confirmed with them.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from cfgsync_adapter.status import FileSummary, node_contents
from cfgsync_core import NodeStatus
from cfgsync_core.server import Call, Operation, Reply, Response, Route, page_of
from cfgsync_core.wire import MAX_PAGE_NODES, NodeDetails, StatusSource


class ListedNode(NodeStatus, frozen=True, kw_only=True):
    """A node, with the address and metadata that it registered with; both are null before it has."""

    address: str | None = None
    metadata: Any = None


class ListedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that a node is given. `size` and `digest` are absent for a `secret`."""

    path: str
    mode: str
    size: int | msgspec.UnsetType = msgspec.UNSET
    digest: str | msgspec.UnsetType = msgspec.UNSET
    secret: bool = False


class ShownNode(ListedNode, frozen=True, kw_only=True):
    """A node with its own `files` and the `shared` ones, as `generation` gives them (null from a static source).
    `replaced`: an operator gave its own files. `digest` is that of all of them, null when it gets none."""

    generation: str | None = None
    digest: str | None = None
    replaced: bool = False
    files: tuple[ListedFile, ...] = ()
    shared: tuple[ListedFile, ...] = ()


class NodePage(msgspec.Struct, frozen=True):
    """Nodes in the order of their names; fewer than asked for are the last ones."""

    nodes: tuple[ListedNode, ...] = ()


_LIST: Final = Operation(
    "The nodes with address and metadata",
    {"200": Response((NodePage,))},
    "400 403 503",
    query={
        "limit": {
            "description": f"1 to {MAX_PAGE_NODES}; anything else counts as {MAX_PAGE_NODES}",
            "type": "string",
        },
        "after": {"description": "the last name of the page before", "type": "string"},
    },
)
_SHOW: Final = Operation(
    "One node with the files that it is given; an unknown one is not registered",
    {"200": Response((ShownNode,))},
    "400 403 503",
)


def node_list_routes(status: StatusSource, details: NodeDetails) -> list[Route]:
    """The routes of one server."""

    async def nodes(call: Call) -> Reply:
        page = NodePage(
            tuple(ListedNode(**_facts(node, details)) for node in status.nodes(*page_of(call.query)))
        )
        return Reply(200, (msgspec.json.encode(page),))

    async def node(call: Call) -> Reply:
        name = call.names["identifier"][:200]
        facts = _facts(status.node(name), details)
        if (given := details.given(name)) is not None:
            own, shared = await asyncio.to_thread(node_contents, name, given.payload)
            facts |= {
                "generation": given.generation,
                "digest": own.digest,
                "replaced": details.is_replaced(name),
                "files": tuple(map(_listed, own.files)),
                "shared": tuple(map(_listed, shared)),
            }
        return Reply(200, (msgspec.json.encode(ShownNode(**facts)),))

    return [
        Route("GET", "/admin/nodes", nodes, "nodes", "operator", operation=_LIST),
        Route("GET", "/admin/nodes/{identifier}", node, "nodes", "operator", operation=_SHOW),
    ]


def _facts(node: NodeStatus, details: NodeDetails) -> dict[str, Any]:
    known = details.registration(node.identifier)
    facts = msgspec.structs.asdict(node)
    return facts if known is None else {**facts, "address": known.ip, "metadata": known.metadata}


def _listed(file: FileSummary) -> ListedFile:
    if file.omitted == "secret":
        return ListedFile(file.path, file.mode, secret=True)
    return ListedFile(file.path, file.mode, file.size, file.digest)
