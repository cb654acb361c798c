"""`cfgsync node …`: what an operator does with one node."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

import msgspec
import typer

from cfgsync_artifacts import ArtifactFile, ArtifactSet, CfgsyncError
from cfgsync_core import FleetStatus
from cfgsync_core.text import counted, plain
from cfgsync_core.wire import NO_REPLACEMENT, NODE_STATES, REPLACEMENT, Replacement, encode_replacement

from ..operator.node_list import ListedNode, NodePage, ShownNode
from .app import PLAIN
from .parts.fleet_table import Page, is_known
from .parts.messages import NoAnswer, note
from .parts.node_lines import node_lines, shown_lines
from .parts.server_client import OperatorClient, ServerClient, StatusClient
from .parts.server_flags import DEFAULT_SERVER, AsJson, AskedServer, asking_a_server
from .parts.terminal import is_live, size

app = typer.Typer(no_args_is_help=True, **PLAIN)

ROUTE: Final = "/admin/nodes"


@app.callback()
def group() -> None:
    """List and show nodes, remove one, or replace its files.

    \b
    Examples:
      cfgsync node list
      cfgsync node show node-1
      cfgsync node evict node-1
    """


class _Name(msgspec.Struct, frozen=True):
    identifier: str


@app.command("list", short_help="Which nodes are registered, and how far each is.")
@asking_a_server
def list_nodes(
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only the nodes in this state, such as not_applied.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="wide", help="Add their metadata.")
    ] = None,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """The registered nodes: address, what each was served, what it has applied, and when it was last seen.

    \b
    Examples:
      cfgsync node list
      cfgsync node list -o wide
      cfgsync node list --state not_applied --json

    Only an operator sees address and metadata: run it on the server's machine, or with an operator's token. Exit codes: 0
    shown, 7 no answer.
    """
    state = None if state is None else re.sub("[ -]", "_", state)
    if state is not None and state not in NODE_STATES:
        raise typer.BadParameter(f"{state!r} is not one of {', '.join(NODE_STATES)}", param_hint="--state")
    if output not in (None, "wide"):
        raise typer.BadParameter(
            f"give wide, or leave it out; {output!r} is not known", param_hint="--output"
        )
    nodes = [node for node in _nodes(server, state) if state in (None, node.state)]
    if json:
        print(msgspec.json.encode({"nodes": nodes}).decode())
    elif nodes:
        columns = size(sys.stdout)[0] if is_live(sys.stdout) else None
        print("\n".join(node_lines(nodes, Page.of(), wide=output == "wide", columns=columns)))
    else:
        print("no node is registered" if state is None else f"no node is {state}")


@app.command(short_help="One node: its state, and the files that it gets.")
@asking_a_server
def show(
    identifier: Annotated[str, typer.Argument(metavar="ID")],
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """One node: its state and why, its address and metadata, and the size and digest of each of its files.

    A file that only its owner may read (mode 0600) is a secret: neither is shown of it.

    \b
    Examples:
      cfgsync node show node-1
      cfgsync node show node-1 --json

    Run it on the server's machine, or with an operator's token. Exit codes: 0 shown, 1 no such node, 5 refused, 7 no answer.
    """
    with OperatorClient(server) as client:
        node = client.get(f"{ROUTE}/{quote(identifier, safe='')}", {}, ShownNode)
    assert node is not None  # `missing` is not given
    print(msgspec.json.encode(node).decode() if json else "\n".join(shown_lines(node, Page.of())))
    raise typer.Exit(int(not is_known(node)))


def _nodes(server: AskedServer, state: str | None) -> list[ListedNode]:
    """Every node, and the missing ones if they are wanted. A caller that is no operator gets them without address and
    metadata, as /status has them."""
    if state == "not_registered":
        with StatusClient(server) as client:
            missing = client.status("/status?limit=1", FleetStatus).missing
        return [ListedNode(one.identifier, last_seen=one.last_seen, state=state) for one in missing]
    try:
        with OperatorClient(server) as client:
            return _all(client, ROUTE)
    except NoAnswer as error:
        if error.code not in (1, 5):
            raise
        with StatusClient(server) as client:
            nodes = _all(client, "/status")
        note(f"without addresses and metadata, which only an operator gets: {error}")
        return nodes


def _all(client: ServerClient, path: str) -> list[ListedNode]:
    """All pages of a list; the server sends the nodes in the order of their names."""
    nodes: list[ListedNode] = []
    query: dict[str, object] = {}
    while (page := client.get(path, query, NodePage)) is not None and page.nodes:
        nodes += page.nodes
        query = {"after": page.nodes[-1].identifier}
    return nodes


@app.command(short_help="Remove a node; its name is free.")
@asking_a_server
def evict(
    identifier: Annotated[str, typer.Argument(metavar="ID")],
    server: AskedServer = DEFAULT_SERVER,
) -> None:
    """Remove a node: its registration is deleted and its name is free. A node that still runs registers again.

    \b
    Example:
      cfgsync node evict node-1

    Run it on the server's machine, or with an operator's token. Exit codes: 0 it has left, 1 there is no such node, 5 refused, 7 no answer.
    """
    with OperatorClient(server) as client:
        answer = client.post("/admin/evict", msgspec.json.encode(_Name(identifier)))
        # a server of another kind may answer 200 to everything
        client.decoded("/admin/evict", answer, _Name)
    print(f"{plain(identifier)} has left; its name is free")


@app.command(short_help="Give one node files of your own.")
@asking_a_server
def replace(
    identifier: Annotated[str, typer.Argument(metavar="ID")],
    file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=LOCALFILE", help="One of its files; once for each. PATH is the payload's."
        ),
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option(metavar="PATH=0600", help="The mode of one of them.  [default: 0644]")
    ] = None,
    clear: Annotated[
        bool,
        typer.Option("--clear", help="Remove the replacement: the node gets the materializer's files again."),
    ] = False,
    server: AskedServer = DEFAULT_SERVER,
) -> None:
    """Replace the files that the materializer gives to one node; it still gets the shared files.

    \b
    Examples:
      cfgsync node replace node-1 --file /config.yaml=mended.yaml
      cfgsync node replace node-1 --clear

    It takes effect in the next generation, which is made at once (frozen: by cfgsync generation rebuild), and stays
    until it is replaced or cleared, also over restarts and while the node is away. A node that is not registered yet gets
    it when it registers.
    """
    if clear == bool(file):
        raise typer.BadParameter("give --file PATH=LOCALFILE, or --clear", param_hint="--file")
    modes = dict(_split(word, "--mode") for word in mode or ())
    files = []
    for word in file or ():
        path, local = _split(word, "--file")
        try:
            data = Path(local).read_bytes()
            files.append(ArtifactFile(path, data, modes.pop(path, "0644")))
        except OSError as error:
            raise typer.BadParameter(f"{local}: {error.strerror}", param_hint="--file") from error
        except CfgsyncError as error:
            raise typer.BadParameter(str(error), param_hint="--file") from error
    for path in modes:
        raise typer.BadParameter(f"there is no --file {path}", param_hint="--mode")
    try:
        body = encode_replacement(Replacement(identifier, ArtifactSet(files)))
    except CfgsyncError as error:
        raise typer.BadParameter(str(error), param_hint="--file") from error
    with OperatorClient(server) as client:
        answer = client.post("/node/replace", body, accepted=202)
        node = client.get(f"{ROUTE}/{quote(identifier, safe='')}", {}, ShownNode)
    if answer.headers.get(REPLACEMENT.lower()) == NO_REPLACEMENT:
        print(f"{identifier}: it had no replacement: nothing to clear")
        return
    what = (
        "the materializer's files come back" if clear else f"it gets {counted(len(files), 'replaced file')}"
    )
    if node is not None and is_known(node):
        print(f"{identifier}: {what} with the next generation")
    else:
        print(f"{identifier}: {what} when it has registered")
        note(f"{plain(identifier)} is not registered; cfgsync node list shows the names")


def _split(word: str, flag: str) -> tuple[str, str]:
    left, equals, right = word.partition("=")
    if not left or not equals or not right:
        raise typer.BadParameter(f"{word!r} is not PATH=…", param_hint=flag)
    return left, right
