"""`cfgsync token …`: tokens for nodes that join, for readers, writers and operators."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
import typer

from cfgsync_core.text import counted, plain

from ..settings.durations import seconds_of
from .app import PLAIN
from .parts.messages import note
from .parts.server_client import OperatorClient
from .parts.server_flags import DEFAULT_SERVER, AsJson, AskedServer, asking_a_server, asking_by_socket
from .parts.tokens.pasted_line import Answered, paste_line, way_to
from .parts.tokens.saved_token import refuse_unwritable, save_token

app = typer.Typer(no_args_is_help=True, **PLAIN)

ROUTE: Final = "/admin/token"
_GLOB: Final = re.compile(r"[A-Za-z0-9._*?-]{1,128}")  # what the server takes

Save = Annotated[
    str | None,
    typer.Option(
        "--save",
        metavar="FILE",
        help="Write the token to FILE (0600), or with - alone to stdout, and print no line.",
    ),
]
Ttl = Annotated[str, typer.Option(metavar="DURATION", help="How long it is valid (30m, 24h, 90d).")]


class _Token(msgspec.Struct, frozen=True, rename={"covers": "for"}):
    id: str
    role: str
    name: str
    covers: str
    uses: int
    granted: int
    expires: str
    expired: bool = False
    reclaim: bool = False
    scopes: tuple[str, ...] = ()


class _Made(_Token, frozen=True, kw_only=True, rename={"covers": "for"}):
    token: str
    scheme: str = "http"
    ca_hash: str = ""
    names: tuple[str, ...] = ()
    listens: tuple[str, ...] = ()


class _List(msgspec.Struct, frozen=True):
    tokens: tuple[_Token, ...]


class _Revoked(msgspec.Struct, frozen=True):
    ids: tuple[str, ...]


@app.callback()
def group() -> None:
    """Tokens: with one a node joins, and a person or a program reads, writes or operates from another machine.

    \b
    Examples:
      cfgsync token create --for 'web-*' --uses 3
      cfgsync token create --role reader --name ana
      cfgsync token list
      cfgsync token revoke ana
    """


@app.command(short_help="Make a token, and print the line that uses it.")
@asking_a_server
def create(
    covers: Annotated[
        str,
        typer.Option("--for", metavar="GLOB", help="The names of the nodes that may join with it (* and ?)."),
    ] = "",
    uses: Annotated[int, typer.Option(metavar="N", min=1, help="How many names it binds.")] = 1,
    ttl: Ttl = "24h",
    reclaim: Annotated[
        bool,
        typer.Option(
            "--reclaim", help="Bind also names that belong to another secret: it takes their place."
        ),
    ] = False,
    role: Annotated[
        str, typer.Option(metavar="join|reader|writer|operator", help="What it permits.")
    ] = "join",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="APP/ENV",
            help="The documents that a writer or a reader may use (a reader: default all); repeatable.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="What the log calls it, such as its owner.")] = "",
    save: Save = None,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Make a token. It is printed this once, in a line to paste where it is used; the server keeps its hash only.

    \b
    Examples:
      cfgsync token create --for 'web-*' --uses 3
      cfgsync token create --for db-1 --reclaim --ttl 1h
      cfgsync token create --role operator --name ana

    Run it on the server's machine, or with an operator's token. Exit codes: 0 made, 5 refused, 7 no answer, 8 the disk refuses FILE.
    """
    _refuse_unfit(role, covers, name, scope or [], is_of_nodes=bool(covers or reclaim or uses != 1))
    wanted: dict[str, Any] = {"role": role, "name": name, "for": covers, "uses": uses, "reclaim": reclaim}
    made = _made(server, wanted | {"scopes": scope or []}, ttl, save)
    _print_made(made, server, save, json)


@app.command(short_help="The first operator's token.")
@asking_by_socket
def bootstrap(
    name: Annotated[str, typer.Option(metavar="NAME", help="What the log calls it.")] = "operator",
    ttl: Ttl = "24h",
    save: Save = None,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Make an operator's token on the server's machine, over its admin socket: the first one, or one after all are lost.

    \b
    Example:
      cfgsync token bootstrap --name ana

    Exit codes: 0 made, 5 refused, 7 no answer, 8 the disk refuses FILE.
    """
    wanted = {"role": "operator", "name": name}
    _print_made(_made(server, wanted, ttl, save), server, save, json)


@app.command("list", short_help="The tokens, without their text.")
@asking_a_server
def list_(
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """The tokens: role, name, the nodes or documents that each is for, uses left, and end. Their text is kept nowhere.

    \b
    Examples:
      cfgsync token list
      cfgsync token list --json
    """
    with OperatorClient(server) as client:
        found = client.get(f"{ROUTE}s", {}, _List)
    assert found is not None  # `missing` is not given
    if json:
        print(msgspec.json.encode(found).decode())
        return
    rows = [("ID", "ROLE", "NAME", "FOR", "USES", "ENDS"), *map(_row, found.tokens)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if found.tokens else ():
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    if not found.tokens:
        print("there is no token")


@app.command(short_help="Refuse a token from now on.")
@asking_a_server
def revoke(
    which: Annotated[str, typer.Argument(metavar="ID|NAME")],
    server: AskedServer = DEFAULT_SERVER,
) -> None:
    """Refuse a token, or all of one name, from now on; the sessions of the page that they began end. Nodes that have
    joined stay.

    \b
    Example:
      cfgsync token revoke ana

    Exit codes: 0 revoked, 1 there is no such token, 5 refused, 7 no answer.
    """
    with OperatorClient(server) as client:
        answer = client.post(f"{ROUTE}/revoke", msgspec.json.encode({"which": which}))
        ids = client.decoded(f"{ROUTE}/revoke", answer, _Revoked).ids
    print(f"revoked {counted(len(ids), 'token')}: {', '.join(plain(id, 40) for id in ids)}")


def _refuse_unfit(role: str, covers: str, name: str, scopes: list[str], *, is_of_nodes: bool) -> None:
    """Refuse flags that do not fit the role, by the flag that is wrong or missing."""
    if role not in ("join", "reader", "writer", "operator"):
        raise typer.BadParameter("give join, reader, writer or operator", param_hint="--role")
    if role == "join" and not covers:
        raise typer.BadParameter("name the nodes that may join with it, such as 'web-*'", param_hint="--for")
    if covers and not _GLOB.fullmatch(covers):
        raise typer.BadParameter(
            f"{covers[:60]!r} is no pattern of names: letters and digits of ASCII, and . _ - * ?",
            param_hint="--for",
        )
    if role != "join" and is_of_nodes:
        raise typer.BadParameter(
            f"they are for nodes that join, and not for a token of role {role}",
            param_hint="--for, --uses, --reclaim",
        )
    if role != "join" and not name:
        raise typer.BadParameter("give a name, which the log shows with each call", param_hint="--name")
    if role == "writer" and not scopes:
        raise typer.BadParameter(
            "name the documents that it may write, such as default/production", param_hint="--scope"
        )


def _made(server: AskedServer, wanted: dict[str, Any], ttl: str, save: str | None) -> _Made:
    try:
        seconds = seconds_of(ttl)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--ttl") from error
    if not seconds:
        raise typer.BadParameter("a token needs a time above 0", param_hint="--ttl")
    if save not in (None, "-"):
        refuse_unwritable(save)
    body = msgspec.json.encode(wanted | {"ttl": seconds})
    with OperatorClient(server) as client:
        return client.decoded(f"{ROUTE}/create", client.post(f"{ROUTE}/create", body), _Made)


def _print_made(made: _Made, server: AskedServer, save: str | None, json: bool) -> None:
    if save == "-":
        print(made.token, flush=True)
        return
    if save is not None:
        save_token(save, made.token, made.id)
    if json:
        print(msgspec.json.encode(made).decode())
        return
    if save is None:
        # without a token, only the admin socket takes an operator's command
        by_socket = server.token_file is None
        way = way_to(server.url, Answered(made.listens, made.scheme, made.ca_hash, made.names, by_socket))
        print(paste_line(made.role, made.name, made.covers, made.token, way.flags), flush=True)
        for remark in way.notes if made.role != "writer" else ():
            note(remark)
    what = (
        f"{counted(made.uses, 'node')} named {made.covers} may join"
        if made.role == "join"
        else f"role {made.role}"
    )
    note(
        f"{what} until {plain(made.expires)}; the token is shown this once, and cfgsync token revoke {made.id} ends it"
    )


def _row(one: _Token) -> tuple[str, ...]:
    uses = f"{one.uses}/{one.granted}" if one.role == "join" else "-"
    about = one.covers if one.role == "join" else ", ".join(one.scopes)
    ends = f"{one.expires} (expired)" if one.expired else one.expires
    return (
        one.id,
        one.role,
        plain(one.name, 64),
        f"{about or '-'}{' (reclaim)' if one.reclaim else ''}",
        uses,
        ends,
    )
