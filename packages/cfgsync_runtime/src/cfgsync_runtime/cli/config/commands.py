"""`cfgsync config …`: config documents, read and written by hand or from a script."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from cfgsync_core.text import plain

from ..app import PLAIN
from ..parts.documents import words
from ..parts.documents.client import (
    HERE,
    MERGE_PATCH,
    DocumentClient,
    IfRevision,
    Name,
    Place,
    content_of,
    in_a_place,
    precondition,
)
from ..parts.documents.watch import WatchedDocument, run_for_each, values
from ..parts.messages import NoAnswer
from ..parts.server_flags import DEFAULT_SERVER, AsJson, AskedServer, asking_a_server
from . import environments, files

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
@asking_a_server
@in_a_place
def get(
    name: Name,
    place: Place = HERE,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Print a document; with --json its revision and time, too.

    \b
    Examples:
      cfgsync config get flags
      cfgsync config get flags --env production --json

    Exit codes: 1 absent, 5 not allowed, 7 no answer.
    """
    with DocumentClient(server, place) as client:
        answer = client.call("GET", name)
        shown = client.decoded(name, answer, words.Shown)
    if json:
        print(answer.body.decode())
    else:
        print(words.pretty(shown.data), end="")


@app.command("set", short_help="Replace a document by the JSON object in a file.")
@asking_a_server
@in_a_place
def set_(
    name: Name,
    file: Annotated[str, typer.Argument(metavar="FILE|-", show_default=False)],
    if_revision: IfRevision = None,
    place: Place = HERE,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Replace the whole document by the JSON object in FILE, or on standard input. An equal one makes no revision.

    \b
    Examples:
      cfgsync config set flags flags.json
      cfgsync config set flags - --if-revision 0

    Exit codes: 2 not valid, 5 not allowed, 7 no answer, 10 another revision.
    """
    with DocumentClient(server, place) as client:
        answer = client.call("POST", name, content_of(file), precondition(if_revision))
        words.say_written(client.decoded(name, answer, words.Written), json)


@app.command(short_help="Merge a JSON object into a document.")
@asking_a_server
@in_a_place
def patch(
    name: Name,
    change: Annotated[str, typer.Argument(metavar="JSON|FILE|-", show_default=False)],
    merge_patch: Annotated[
        bool, typer.Option("--merge-patch", help="Merge deeply, and null removes (RFC 7396).")
    ] = False,
    if_revision: IfRevision = None,
    place: Place = HERE,
    server: AskedServer = DEFAULT_SERVER,
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
    body = (
        change.encode("utf-8", "surrogateescape") if change.lstrip().startswith("{") else content_of(change)
    )
    headers = precondition(if_revision) | ({"Content-Type": MERGE_PATCH} if merge_patch else {})
    with DocumentClient(server, place) as client:
        words.say_written(
            client.decoded(name, client.call("PATCH", name, body, headers), words.Written), json
        )


@app.command("list", short_help="The documents of an environment.")
@asking_a_server
@in_a_place
def list_(
    place: Place = HERE,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """The documents of an environment: name, revision, and when each was written.

    \b
    Examples:
      cfgsync config list --env production
    """
    with DocumentClient(server, place) as client:
        answer = client.call("GET")
        listed = client.decoded("", answer, words.Listed).configs
    if json:
        print(answer.body.decode())
        return
    if not listed:
        print(f"{plain(place.environment, 100)} has no documents")
        return
    width = max(len("NAME"), *(len(one.name) for one in listed))
    print(f"{'NAME':{width}}  {'REVISION':>8}  UPDATED")
    for one in listed:
        print(f"{plain(one.name, 200):{width}}  {one.revision:>8}  {plain(one.updated_at, 30)}")


@app.command(short_help="Delete a document.")
@asking_a_server
@in_a_place
def delete(
    name: Name,
    if_revision: IfRevision = None,
    place: Place = HERE,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Delete a document; an absent one stays absent.

    \b
    Examples:
      cfgsync config delete flags --env staging
    """
    was_there = True
    with DocumentClient(server, place) as client:
        if if_revision is None:
            was_there = client.decoded(name, client.call_scope("DELETE", name), words.Deleted).deleted
        else:
            client.call("DELETE", name, headers=precondition(if_revision))
            was_there = if_revision > 0
    said = f"{plain(name, 200)} is deleted" if was_there else f"there was no {place.named(name)} to delete"
    words.say(said, json, name=name, deleted=was_there)


@app.command(short_help="The values that a document had.")
@asking_a_server
@in_a_place
def history(
    name: Name,
    place: Place = HERE,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """The values that a document had, newest first: revision, time, author and value.

    \b
    Examples:
      cfgsync config history flags --env production

    Exit codes: 1 never written, 5 not allowed, 7 no answer.
    """
    with DocumentClient(server, place) as client:
        answer = client.call_scope("GET", name, "history")
        entries = client.decoded(name, answer, words.HistoryOf).entries
    if not entries:
        raise NoAnswer(
            1, f"{place.named(name)} was never written", "cfgsync config list shows which documents there are"
        )
    print(answer.body.decode() if json else "\n".join(words.history_lines(entries)))


@app.command(short_help="Write an earlier value again.")
@asking_a_server
@in_a_place
def rollback(
    name: Name,
    revision: Annotated[int, typer.Argument(metavar="REVISION", min=1, show_default=False)],
    if_revision: IfRevision = None,
    place: Place = HERE,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Write the value of an earlier revision again. This makes a new revision.

    \b
    Examples:
      cfgsync config rollback flags 7 --env production

    Exit codes: 1 no such revision, 5 not allowed, 7 no answer, 10 another revision.
    """
    body = msgspec.json.encode({"toVersion": revision, "expectedVersion": if_revision})
    with DocumentClient(server, place) as client:
        client.call_scope("POST", name, "rollback", body)
        shown = client.decoded(name, client.call("GET", name), words.Shown)
    said = f"{plain(name, 200)} revision {shown.revision} has the value of revision {revision}"
    words.say(said, json, name=name, revision=shown.revision, of=revision)


@app.command(short_help="Print each newest value, or run a command for it.")
@asking_a_server
@in_a_place
def watch(
    name: Name,
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND]", show_default=False)] = None,
    place: Place = HERE,
    server: AskedServer = DEFAULT_SERVER,
) -> None:
    """Print the value now and each newest one, a line each; or run COMMAND once for each distinct value.

    COMMAND gets the value on standard input, null for an absent document,
    and CFGSYNC_CONFIG_NAME, CFGSYNC_CONFIG_REVISION, CFGSYNC_ENVIRONMENT.
    When it fails, it is run again after a growing pause.

    \b
    Examples:
      cfgsync config watch flags --env production
      cfgsync config watch flags -- ./apply-flags
    """
    with DocumentClient(server, place) as client:
        watched = WatchedDocument(client, name)
        if command:
            run_for_each(watched, command, name, place)
        for value in values(watched):
            print((value.data or b"null").decode(), flush=True)


app.command(short_help="What differs between two environments.")(environments.diff)
app.command(short_help="Write one environment's value in another one.")(environments.promote)
app.command(short_help="Open a document in an editor.")(files.edit)
app.command(short_help="The JSON Schema of a document.")(files.schema)
app.command(short_help="Documents as files, once or for good.")(files.export)
app.command("import", short_help="Files as documents, in one revision.")(files.import_)
