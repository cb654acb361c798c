"""`cfgsync config …`: config documents, read and written by hand or from a script."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cfgsync_core.text import cause, plain

from ..errors import InputError
from .app import PLAIN
from .parts.document_client import (
    DEFAULT,
    MERGE_PATCH,
    App,
    DocumentClient,
    Environment,
    IfRevision,
    Name,
    Namespace,
    Place,
)
from .parts.document_words import HistoryOf, Listed, Shown, Written, difference, history_lines, pretty
from .parts.server_client import DEFAULT_SERVER, AdminSocket, AsJson, Server

app = typer.Typer(no_args_is_help=True, **PLAIN)


@app.callback()
def group() -> None:
    """Config documents of an environment: read, write, and go back.

    \b
    Examples:
      cfgsync config set flags flags.json --env production
      cfgsync config patch flags change.json --env production
      cfgsync config get flags --env production
    """


@app.command(short_help="Print a document.")
def get(
    name: Name,
    environment: Environment = DEFAULT,
    app: App = DEFAULT,
    namespace: Namespace = DEFAULT,
    server: Server = DEFAULT_SERVER,
    admin_socket: AdminSocket = None,
    json: AsJson = False,
) -> None:
    """Print a document; with --json its revision and time, too.

    \b
    Examples:
      cfgsync config get flags
      cfgsync config get flags --env production --json

    Exit codes: 1 absent, 5 not allowed, 7 no answer.
    """
    with DocumentClient(server, admin_socket, Place(environment, app, namespace)) as client:
        answer = client.call("GET", name)
        shown = client.decoded(name, answer, Shown)
    if json:
        print(answer.body.decode())
    else:
        print(pretty(shown.data), end="")


@app.command("set", short_help="Replace a document by the JSON object in a file.")
def set_(
    name: Name,
    file: Annotated[str, typer.Argument(metavar="FILE|-", show_default=False)],
    if_revision: IfRevision = None,
    environment: Environment = DEFAULT,
    app: App = DEFAULT,
    namespace: Namespace = DEFAULT,
    server: Server = DEFAULT_SERVER,
    admin_socket: AdminSocket = None,
    json: AsJson = False,
) -> None:
    """Replace the whole document by the JSON object in FILE, or on standard input. An equal one makes no revision.

    \b
    Examples:
      cfgsync config set flags flags.json
      cfgsync config set flags - --if-revision 0

    Exit codes: 2 not valid, 5 not allowed, 7 no answer, 10 another revision.
    """
    with DocumentClient(server, admin_socket, Place(environment, app, namespace)) as client:
        answer = client.call("POST", name, _content(file), _match(if_revision))
        _say_written(client.decoded(name, answer, Written), json)


@app.command(short_help="Merge a JSON object into a document.")
def patch(
    name: Name,
    change: Annotated[str, typer.Argument(metavar="JSON|FILE|-", show_default=False)],
    merge_patch: Annotated[
        bool, typer.Option("--merge-patch", help="Merge deeply, and null removes (RFC 7396).")
    ] = False,
    if_revision: IfRevision = None,
    environment: Environment = DEFAULT,
    app: App = DEFAULT,
    namespace: Namespace = DEFAULT,
    server: Server = DEFAULT_SERVER,
    admin_socket: AdminSocket = None,
    json: AsJson = False,
) -> None:
    """Replace members of the document by those of a JSON object; an absent document is created.

    \b
    Examples:
      cfgsync config patch flags change.json
      cfgsync config patch flags - --merge-patch

    Exit codes: 2 not valid, 5 not allowed, 7 no answer, 10 another revision,
    or the document is no object.
    """
    body = change.encode("utf-8", "surrogateescape") if change.lstrip().startswith("{") else _content(change)
    headers = _match(if_revision) | ({"Content-Type": MERGE_PATCH} if merge_patch else {})
    with DocumentClient(server, admin_socket, Place(environment, app, namespace)) as client:
        _say_written(client.decoded(name, client.call("PATCH", name, body, headers), Written), json)


@app.command("list", short_help="The documents of an environment.")
def list_(
    environment: Environment = DEFAULT,
    app: App = DEFAULT,
    namespace: Namespace = DEFAULT,
    server: Server = DEFAULT_SERVER,
    admin_socket: AdminSocket = None,
    json: AsJson = False,
) -> None:
    """The documents of an environment: name, revision, and when each was written.

    \b
    Examples:
      cfgsync config list --env production
    """
    place = Place(environment, app, namespace)
    with DocumentClient(server, admin_socket, place) as client:
        answer = client.call("GET")
        listed = client.decoded("", answer, Listed).configs
    if json:
        print(answer.body.decode())
        return
    if not listed:
        print(f"{plain(environment, 100)} has no documents")
        return
    width = max(len("NAME"), *(len(one.name) for one in listed))
    print(f"{'NAME':{width}}  {'REVISION':>8}  UPDATED")
    for one in listed:
        print(f"{plain(one.name, 200):{width}}  {one.revision:>8}  {plain(one.updated_at, 30)}")


@app.command(short_help="Delete a document.")
def delete(
    name: Name,
    if_revision: IfRevision = None,
    environment: Environment = DEFAULT,
    app: App = DEFAULT,
    namespace: Namespace = DEFAULT,
    server: Server = DEFAULT_SERVER,
    admin_socket: AdminSocket = None,
) -> None:
    """Delete a document; an absent one stays absent.

    \b
    Examples:
      cfgsync config delete flags --env staging
    """
    with DocumentClient(server, admin_socket, Place(environment, app, namespace)) as client:
        client.call("DELETE", name, headers=_match(if_revision))
    print(f"{plain(name, 200)} is deleted")


@app.command(short_help="The values that a document had.")
def history(
    name: Name,
    environment: Environment = DEFAULT,
    app: App = DEFAULT,
    namespace: Namespace = DEFAULT,
    server: Server = DEFAULT_SERVER,
    admin_socket: AdminSocket = None,
    json: AsJson = False,
) -> None:
    """The values that a document had, newest first: revision, when, by whom, and the value.

    \b
    Examples:
      cfgsync config history flags --env production
    """
    with DocumentClient(server, admin_socket, Place(environment, app, namespace)) as client:
        answer = client.call_scope("GET", name, "history")
        entries = client.decoded(name, answer, HistoryOf).entries
    if json:
        print(answer.body.decode())
    elif entries:
        print("\n".join(history_lines(entries)))
    else:
        print(f"{plain(name, 200)} has no history")


@app.command(short_help="Write an earlier value again.")
def rollback(
    name: Name,
    revision: Annotated[int, typer.Argument(metavar="REVISION", min=1, show_default=False)],
    environment: Environment = DEFAULT,
    app: App = DEFAULT,
    namespace: Namespace = DEFAULT,
    server: Server = DEFAULT_SERVER,
    admin_socket: AdminSocket = None,
) -> None:
    """Write the value of an earlier revision again. This makes a new revision.

    \b
    Examples:
      cfgsync config rollback flags 7 --env production
    """
    body = msgspec.json.encode({"toVersion": revision})
    with DocumentClient(server, admin_socket, Place(environment, app, namespace)) as client:
        client.call_scope("POST", name, "rollback", body)
        shown = client.decoded(name, client.call("GET", name), Shown)
    print(f"{plain(name, 200)} revision {shown.revision} has the value of revision {revision}")


@app.command(short_help="What differs between two environments.")
def diff(
    name: Name,
    before: Annotated[str, typer.Option("--from", metavar="NAME", help="The one environment.")],
    after: Annotated[str, typer.Option("--to", metavar="NAME", help="The other environment.")],
    app: App = DEFAULT,
    namespace: Namespace = DEFAULT,
    server: Server = DEFAULT_SERVER,
    admin_socket: AdminSocket = None,
) -> None:
    """What differs in a document between two environments, line by line.

    \b
    Examples:
      cfgsync config diff flags --from staging --to production

    Exit codes: 1 they differ, or one is absent; 5 not allowed, 7 no answer.
    """
    texts = []
    for environment in (before, after):
        with DocumentClient(server, admin_socket, Place(environment, app, namespace)) as client:
            texts.append(pretty(client.decoded(name, client.call("GET", name), Shown).data))
    lines = difference(texts[0], texts[1], f"{name} ({before})", f"{name} ({after})")
    print("\n".join(lines) or f"{plain(name, 200)} is the same in both")
    raise typer.Exit(int(bool(lines)))


def _content(file: str) -> bytes:
    """What is in a file, or on standard input. Raises `InputError`."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {cause(error)}", "give a JSON file, or - for standard input") from error


def _match(revision: int | None) -> dict[str, Any]:
    if revision is None:
        return {}
    return {"If-Match": str(revision)} if revision else {"If-None-Match": "*"}


def _say_written(written: Written, json: bool) -> None:
    if json:
        print(msgspec.json.encode(written).decode())
    else:
        print(f"{plain(written.name, 200)} revision {written.revision}")
