"""`cfgsync status`: who is here, who is missing, and why it is not ready; a table, or the server's own JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final
from urllib.parse import quote

import msgspec
import typer

from cfgsync_core import (
    Condition,
    InvalidServerUrl,
    Lost,
    ServerUrl,
    describe,
    plain,
)

from ..carrier import Carrier
from .says import fail

ANSWER_WITHIN: Final = 10.0
NOT_OURS: Final = "is this a cfgsync server? check --server"
_COLUMNS: Final = (("NODE", 22), ("STATE", 11), ("SERVED", 10), ("APPLIED", 10), ("LAST SEEN", 20))


class _Node(msgspec.Struct, frozen=True):
    """A node as a server of this version or a later one says it."""

    identifier: str
    registered: bool = False
    waiting: bool = False
    served: str | None = None
    applied: str | None = None
    last_failure: str | None = None
    last_seen: str | None = None
    reason: str | None = None
    rebound: int = 0


class _Fleet(msgspec.Struct, frozen=True):
    registered: int
    waiting: int
    generation: str | None = None
    revision: int = 0
    reason: str | None = None
    conditions: tuple[Condition, ...] = ()
    nodes: tuple[_Node, ...] = ()
    insecure: tuple[str, ...] = ()


def command(
    identifier: Annotated[str | None, typer.Argument(metavar="[ID]", help="One node only.")] = None,
    server: Annotated[
        str, typer.Option("--server", envvar="CFGSYNC_SERVER", help="The server's URL.")
    ] = "http://127.0.0.1:4400",
    save_snapshot: Annotated[
        str | None,
        typer.Option(
            "--save-snapshot",
            metavar="FILE",
            help="Record the fleet for cfgsync check, on the server's machine.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", envvar="CFGSYNC_JSON", help="Print what the server says, as it is.")
    ] = False,
) -> None:
    """Who is here, who is missing, and why it is not ready."""
    if save_snapshot is not None:
        from .saving import save_snapshot as save

        save(server, save_snapshot)
        return
    try:
        at = ServerUrl.parse(server)
    except InvalidServerUrl as error:
        raise typer.BadParameter(str(error), param_hint="--server") from error
    path = "/status" if identifier is None else f"/status/{quote(identifier, safe='')}"
    with Carrier(at) as carrier:
        body = _asked(carrier, at, path)
        try:
            if identifier is not None:
                lines = list(_one(body))
            else:
                fleet = msgspec.json.decode(body, type=_Fleet)
                lines = list(_table(fleet, [] if json else _nodes(fleet, carrier, at)))
        except msgspec.DecodeError as error:
            raise typer.Exit(fail(6, f"{at}{path} does not answer a status: {error}", NOT_OURS)) from error
    print(body.decode() if json else "\n".join(lines))


def _asked(carrier: Carrier, at: ServerUrl, path: str) -> bytes:
    try:
        answer = carrier.ask("GET", path, {"Accept": "application/json"}, None, ANSWER_WITHIN, ANSWER_WITHIN)
    except Lost as error:
        why = f"no answer from {at}: {error}"
        raise typer.Exit(fail(7, why, "is the server running, and is --server right?")) from error
    if answer.status in (401, 403):
        raise typer.Exit(fail(5, f"{at} refuses to tell: status {answer.status}", "ask who runs the server"))
    if answer.status != 200:
        raise typer.Exit(fail(7, f"{at}{path} answers status {answer.status}", NOT_OURS))
    return answer.body


def _nodes(fleet: _Fleet, carrier: Carrier, at: ServerUrl) -> Iterator[_Node]:
    """Every node: a server tells at most some of them at once, in the order of their names."""
    page = fleet.nodes
    told = 0
    while page:
        yield from page
        told += len(page)
        if told >= fleet.registered:
            return
        more = _asked(carrier, at, f"/status?after={quote(page[-1].identifier, safe='')}")
        page = msgspec.json.decode(more, type=_Fleet).nodes


def _table(fleet: _Fleet, nodes: Iterable[_Node]) -> Iterator[str]:
    yield f"generation {_number(fleet.generation)}, {fleet.registered} registered, {fleet.waiting} waiting"
    if fleet.insecure:
        yield from _wrapped(f"insecure: {plain(', '.join(fleet.insecure))}")
    if fleet.reason:
        yield from _wrapped(f"not ready: {plain(fleet.reason)}")
    for condition in fleet.conditions:
        yield from _wrapped(f"{plain(condition.name)}: {describe('', (condition,))}")
    if fleet.nodes:
        yield ""
        yield _row([title for title, _ in _COLUMNS])
    for node in nodes:
        seen = node.last_seen or "-"
        yield _row([node.identifier, _state(node), _number(node.served), _number(node.applied), seen])


def _one(body: bytes) -> Iterator[str]:
    node = msgspec.json.decode(body, type=_Node)
    yield _cut(f"{plain(node.identifier)}: {_state(node)}")
    yield f"served generation {_number(node.served)}, applied {_number(node.applied)}"
    yield f"last seen {node.last_seen or 'never'}"
    if node.rebound:
        times = "once" if node.rebound == 1 else f"{node.rebound} times"
        yield from _wrapped(f"another secret took this name {times}: is it one node?")
    if node.last_failure:
        yield from _wrapped(f"last failure: {plain(node.last_failure)}")
    if node.reason:
        yield from _wrapped(f"why: {plain(node.reason)}")


def _state(node: _Node) -> str:
    if not node.registered:
        return "stranger"
    if node.last_failure:
        return "failed"
    if node.waiting:
        return "waiting"
    return "applied" if node.applied else "served" if node.served else "registered"


def _number(generation: str | None) -> str:
    """The number of a generation; its epoch is 36 characters that say nothing to a person."""
    return plain(generation.rpartition(".")[2], 10) if generation else "-"


def _row(cells: Sequence[str]) -> str:
    cut = [
        (text if len(text) <= width else text[: width - 1] + "…").ljust(width)
        for text, (_, width) in zip(map(plain, cells), _COLUMNS, strict=True)
    ]
    return " ".join(cut).rstrip()


def _cut(line: str, width: int = 80) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def _wrapped(line: str, width: int = 80) -> Iterator[str]:
    """The words of `line` in lines of at most `width`; all of them, since a name left out may be the one in question."""
    now = ""
    for word in line.split():
        if now and len(now) + 1 + len(word) > width:
            yield _cut(now, width)
            now = "  " + word
        else:
            now = f"{now} {word}" if now else word
    yield _cut(now, width)
