"""`cfgsync node …`: what an operator does with one node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cfgsync_artifacts import ArtifactFile, ArtifactSet, CfgsyncError
from cfgsync_core import NodeStatus
from cfgsync_core.text import counted, plain
from cfgsync_core.wire import NO_REPLACEMENT, REPLACEMENT, Replacement, encode_replacement

from .app import PLAIN
from .parts.fleet_table import Page, rows
from .parts.server_client import DEFAULT_SERVER, AdminSocket, AsJson, OperatorClient, Server, ServerClient

app = typer.Typer(no_args_is_help=True, **PLAIN)


@app.callback()
def group() -> None:
    """What an operator does with one node.

    \b
    Examples:
      cfgsync node list
      cfgsync node evict node-1
    """


class _Page(msgspec.Struct, frozen=True):
    nodes: tuple[msgspec.Raw, ...] = ()


class _Name(msgspec.Struct, frozen=True):
    identifier: str


@app.command("list", short_help="Which nodes are registered, and how far each is.")
def list_nodes(server: Server = DEFAULT_SERVER, json: AsJson = False) -> None:
    """The registered nodes: what each was served, what it has applied, and when it was last seen.

    \b
    Examples:
      cfgsync node list
      cfgsync node list --json

    Exit codes: 0 shown, 7 no answer.
    """
    with ServerClient(server) as client:
        nodes = _nodes(client)
    if json:
        print(msgspec.json.encode({"nodes": nodes}).decode())
    elif nodes:
        print("\n".join(rows((msgspec.json.decode(node, type=NodeStatus) for node in nodes), Page.of())))
    else:
        print("no node is registered")


def _nodes(client: ServerClient) -> list[msgspec.Raw]:
    """Every node in the server's JSON. The server sends them in pages, in the order of their names."""
    nodes: list[msgspec.Raw] = []
    query: dict[str, object] = {}
    while True:
        page = client.get("/status", query, _Page)
        if page is None or not page.nodes:
            return nodes
        nodes += page.nodes
        query = {"after": msgspec.json.decode(page.nodes[-1], type=_Name).identifier}


@app.command(short_help="Make a node leave; its name is free.")
def evict(
    identifier: Annotated[str, typer.Argument(metavar="ID")],
    server: Server = DEFAULT_SERVER,
    admin_socket: AdminSocket = None,
) -> None:
    """Make a node leave: its registration is deleted and its name is free. One that still runs registers again.

    \b
    Example:
      cfgsync node evict node-1

    Run it on the server's machine. Exit codes: 0 it has left, 1 there is no such node, 5 refused, 7 no answer.
    """
    with OperatorClient(server, admin_socket) as client:
        answer = client.post("/admin/evict", msgspec.json.encode(_Name(identifier)))
        # a server of another kind may answer 200 to everything
        client.decoded("/admin/evict", answer, _Name)
    print(f"{plain(identifier)} has left; its name is free")


@app.command(short_help="Give one node files of your own.")
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
        bool, typer.Option("--clear", help="Take the replacement away: the materializer's files come back.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    admin_socket: AdminSocket = None,
) -> None:
    """Replace the files that the materializer gives to one node; it still gets the shared files.

    \b
    Examples:
      cfgsync node replace node-1 --file /config.yaml=mended.yaml
      cfgsync node replace node-1 --clear

    It takes effect in the next generation, which is made at once (frozen: by cfgsync generation renew), and stays
    until it is replaced or cleared, also over restarts and while the node is away.
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
        raise typer.BadParameter(f"{path} is no --file", param_hint="--mode")
    try:
        body = encode_replacement(Replacement(identifier, ArtifactSet(files)))
    except CfgsyncError as error:
        raise typer.BadParameter(str(error), param_hint="--file") from error
    with OperatorClient(server, admin_socket) as client:
        answer = client.post("/node/replace", body, accepted=202)
    if answer.headers.get(REPLACEMENT.lower()) == NO_REPLACEMENT:
        print(f"{identifier}: it had no replacement: nothing to clear")
        return
    what = (
        "the materializer's files come back" if clear else f"it gets {counted(len(files), 'replaced file')}"
    )
    print(f"{identifier}: {what} with the next generation")


def _split(word: str, flag: str) -> tuple[str, str]:
    left, equals, right = word.partition("=")
    if not left or not equals or not right:
        raise typer.BadParameter(f"{word!r} is not PATH=…", param_hint=flag)
    return left, right
