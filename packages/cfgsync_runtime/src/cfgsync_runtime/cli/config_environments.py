"""The commands of `cfgsync config` over two environments: diff, promote."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cfgsync_core.text import plain

from ..errors import InputError
from .parts.documents import words
from .parts.documents.client import (
    DEFAULT,
    App,
    DocumentClient,
    IfRevision,
    Name,
    Namespace,
    Place,
    ScopeWrite,
    another_revision,
)
from .parts.messages import NoAnswer
from .parts.server_flags import DEFAULT_SERVER, AsJson, AskedServer, asking_a_server


@asking_a_server
def diff(
    name: Name,
    before: Annotated[str, typer.Option("--from", metavar="NAME", help="The one environment.")],
    after: Annotated[str, typer.Option("--to", metavar="NAME", help="The other environment.")],
    app: App = DEFAULT,
    namespace: Namespace = DEFAULT,
    server: AskedServer = DEFAULT_SERVER,
) -> None:
    """What differs in a document between two environments, line by line.

    \b
    Examples:
      cfgsync config diff flags --from staging --to production

    Exit codes: 1 they differ, or one is absent; 5 not allowed, 7 no answer.
    """
    texts = []
    for environment in (before, after):
        with DocumentClient(server, Place(environment, app, namespace)) as client:
            texts.append(words.pretty(client.decoded(name, client.call("GET", name), words.Shown).data))
    lines = words.difference(texts[0], texts[1], f"{name} ({before})", f"{name} ({after})")
    print("\n".join(lines) or f"{plain(name, 200)} is the same in both")
    raise typer.Exit(int(bool(lines)))


@asking_a_server
def promote(
    name: Name,
    before: Annotated[
        str, typer.Option("--from", metavar="NAME", help="The environment that has the value.")
    ],
    after: Annotated[str, typer.Option("--to", metavar="NAME", help="The environment that gets it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")] = False,
    if_revision: IfRevision = None,
    app: App = DEFAULT,
    namespace: Namespace = DEFAULT,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Write the value of one environment in another one, after the difference was shown and confirmed.

    --if-revision is that of the document which is replaced.

    \b
    Examples:
      cfgsync config promote flags --from staging --to production

    Exit codes: 1 absent there, or not confirmed; 2 not valid, 5 not allowed,
    7 no answer, 10 changed meanwhile.
    """
    here, there = (Place(environment, app, namespace) for environment in (before, after))
    with DocumentClient(server, here) as client:
        value = client.find(name)
        if value is None:
            raise NoAnswer(1, f"there is no {here.named(name)}", "cfgsync config list shows which there are")
    with DocumentClient(server, there) as client:
        found = client.find(name)
        old = "" if found is None else words.pretty(found.content_json.encode())
        new = words.pretty(value.content_json.encode())
        lines = words.difference(old, new, f"{name} ({after})", f"{name} ({before})")
        held = 0 if found is None else found.version
        if if_revision is not None and held != if_revision:
            raise another_revision(there.named(name), if_revision, held, name)
        if not lines:
            words.say(f"{plain(name, 200)} is the same in both", json, name=name, revision=held)
            return
        print("\n".join(lines), flush=True, file=sys.stderr if json else sys.stdout)
        if not yes:
            _confirm(f"write it to {plain(after, 100)}?")
        revision = client.commit([ScopeWrite(namespace, name, value.content_json, held)])
        words.say(f"{there.named(name)} revision {revision}", json, name=name, revision=revision)


def _confirm(question: str) -> None:
    """Ask on the terminal. Raises `InputError` without one, `typer.Exit` for another answer than yes."""
    if not sys.stdin.isatty():
        raise InputError("promote asks before it writes, and there is no terminal", "say --yes")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing was written")
        raise typer.Exit(1)
