"""The commands of `cfgsync config` with files and an editor: edit, schema, export, import."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from cfgsync_artifacts import DiskError
from cfgsync_core import InvalidRequest
from cfgsync_core.text import counted, plain
from cfgsync_documents.service import canonical

from ...errors import InputError
from ..parts.documents import words
from ..parts.documents.client import (
    DEFAULT,
    HERE,
    App,
    DocumentClient,
    Environment,
    Name,
    Place,
    ScopeDocument,
    ScopeWrite,
    content_of,
    in_a_place,
)
from ..parts.documents.directory import Directory
from ..parts.documents.edited import EditedText
from ..parts.documents.watch import again_after
from ..parts.messages import NoAnswer, note
from ..parts.server_flags import DEFAULT_SERVER, AsJson, AskedServer, asking_a_server

HOLD_SECONDS: Final = 20
OneNamespace = Annotated[
    str | None, typer.Option("--namespace", metavar="NAME", help="This namespace only.  [default: all]")
]


@asking_a_server
@in_a_place
def edit(
    name: Name,
    place: Place = HERE,
    server: AskedServer = DEFAULT_SERVER,
) -> None:
    """Open a document in $EDITOR, and write it if it was changed, at the revision that was read.

    When another writer was first, or the text is not valid, nothing is written, and the text stays in a file.

    \b
    Examples:
      cfgsync config edit flags --env production

    Exit codes: 2 not valid, 5 not allowed, 7 no answer, 10 changed meanwhile.
    """
    with DocumentClient(server, place) as client:
        found = client.find(name)
        before = "{}\n" if found is None else words.pretty(found.content_json.encode())
        edited = EditedText(name, before)
        text = edited.edit()
        try:
            changed = canonical(text.encode("utf-8", "surrogateescape"), plain(name, 200)).decode()
        except InvalidRequest as error:
            again = f"correct it, and write it: cfgsync config set {plain(name, 200)} {edited.path}"
            raise InputError(f"{error}; the text is in {edited.path}", again) from error
        if changed == canonical(before.encode()).decode():
            absent = "" if found is not None else ": it does not exist, and was not created"
            print(f"{plain(name, 200)} is unchanged{absent}")
        else:
            write = ScopeWrite(place.namespace, name, changed, 0 if found is None else found.version)
            try:
                revision = client.commit([write])
            except NoAnswer as error:
                raise NoAnswer(error.code, f"{error}; the text is in {edited.path}", error.hint) from error
            print(f"{plain(name, 200)} revision {revision}")
    edited.done()


@asking_a_server
def export(
    directory: Annotated[str, typer.Argument(metavar="DIR", show_default=False)],
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and keep the files in step.")] = False,
    environment: Environment = DEFAULT,
    app: App = DEFAULT,
    namespace: OneNamespace = None,
    server: AskedServer = DEFAULT_SERVER,
) -> None:
    """Write the documents of an environment to DIR/NAMESPACE/NAME.json, each file whole.

    With --watch the files follow their documents, and one that is deleted is removed.
    Files that were there before and are of no document stay.

    \b
    Examples:
      cfgsync config export live --env production
      cfgsync config export /etc/my-daemon --watch --namespace my-daemon

    Exit codes: 5 not allowed, 7 no answer, 8 a file cannot be written.
    """
    files, place = Directory(directory, namespace), Place(environment, app)
    with DocumentClient(server, place) as client:
        tag, held, failures = "", dict[str, ScopeDocument](), 0
        while True:
            try:
                tag, found = client.scope(tag, HOLD_SECONDS)
                chosen = files.chosen(found.documents or ())
                changed = files.write(chosen, held) if found.documents is not None else []
            except NoAnswer as error:
                if not watch or not error.again:
                    raise
                failures = again_after(failures, error)
                continue
            except DiskError as error:
                refused = NoAnswer(8, str(error), error.hint)
                if not watch:
                    raise refused from error
                tag, failures = "", again_after(failures, refused)
                continue
            failures = 0
            if found.documents is not None:
                if not held:
                    for key in files.strangers(chosen):
                        note(f"{plain(key, 300)}.json is of no document")
                if changed or not held:
                    print(
                        f"{plain(directory, 1_000)}: {counted(len(changed), 'document')} written", flush=True
                    )
                held = chosen
            if not watch:
                return


@asking_a_server
def import_(
    directory: Annotated[str, typer.Argument(metavar="DIR", show_default=False)],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")
    ] = False,
    environment: Environment = DEFAULT,
    app: App = DEFAULT,
    namespace: OneNamespace = None,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Write the files DIR/NAMESPACE/NAME.json as documents: all in one revision, or none. Nothing is deleted.

    \b
    Examples:
      cfgsync config import live --env staging --dry-run

    Exit codes: 2 not valid, 5 not allowed, 7 no answer, 10 changed meanwhile.
    """
    files, place = Directory(directory, namespace), Place(environment, app)
    wanted = files.read()
    with DocumentClient(server, place) as client:
        _, found = client.scope()
        there = files.chosen(found.documents or ())
        writes = []
        for key, content in wanted.items():
            old = there.get(key)
            if old is not None and old.content_json == content:
                continue
            space, _, name = key.partition("/")
            writes.append(ScopeWrite(space, name, content, 0 if old is None else old.version))
            if not json:
                print(f"{'create' if old is None else 'change'} {plain(key, 300)}")
        for key in sorted(there.keys() - wanted.keys()):
            note(f"{plain(key, 300)} has no file, and stays as it is")
        same = len(wanted) - len(writes)
        many = counted(len(writes), "document")
        facts: dict[str, object] = {
            "created": [one.key for one in writes if not one.expected_version],
            "changed": [one.key for one in writes if one.expected_version],
            "equal": same,
        }
        if dry_run:
            words.say(f"{many} would be written, {same} equal", json, **facts)
        elif writes:
            revision = client.commit(writes)
            words.say(f"revision {revision}: {many} written, {same} equal", json, revision=revision, **facts)
        else:
            words.say(f"{counted(same, 'document')} equal", json, **facts)


@asking_a_server
@in_a_place
def schema(
    name: Name,
    file: Annotated[str | None, typer.Argument(metavar="[FILE|-]", show_default=False)] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the schema.")] = False,
    place: Place = HERE,
    server: AskedServer = DEFAULT_SERVER,
) -> None:
    """Set the JSON Schema (2020-12) that a document must fit from now on, or print the one that is set.

    A schema that the present value breaks is refused.

    \b
    Examples:
      cfgsync config schema limits limits.schema.json --env production
      cfgsync config schema limits --env production

    Exit codes: 1 no schema, 2 not valid, or the document does not fit;
    5 not allowed, 7 no answer.
    """
    if delete and file is not None:
        raise InputError("--delete and a file are both given", "give one of them")
    shown = plain(name, 200)
    with DocumentClient(server, place) as client:
        if file is not None:
            client.call_scope("PUT", name, "schema", content_of(file))
            print(f"{shown} has this schema from now on")
        elif delete:
            client.call_scope("DELETE", name, "schema")
            print(f"{shown} has no schema")
        else:
            found = client.call_scope(
                "GET", name, "schema", absent=f"set one: cfgsync config schema {shown} FILE"
            )
            print(words.pretty(found.body), end="")
