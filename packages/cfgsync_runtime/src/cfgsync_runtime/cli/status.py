"""`cfgsync status`: who is here, who is missing, and why it is not ready; a table, or the server's own JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final
from urllib.parse import quote

import msgspec
import typer

from cfgsync_core import InvalidServerUrl, Lost, ServerUrl

from ..carrier import Carrier
from .says import fail
from .told import ToldFleet, ToldNode, one, table

ANSWER_WITHIN: Final = 10.0
NOT_OURS: Final = "is this a cfgsync server? check --server"


def command(
    identifier: Annotated[str | None, typer.Argument(metavar="[ID]", help="One node only.")] = None,
    server: Annotated[
        str, typer.Option("--server", metavar="URL", envvar="CFGSYNC_SERVER", help="The server's URL.")
    ] = "http://127.0.0.1:4400",
    wait_applied: Annotated[
        bool,
        typer.Option(
            "--wait-applied",
            envvar="CFGSYNC_WAIT_APPLIED",
            help="Wait until every node has applied what it is given: exit 0, or 1 and who has not.",
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            envvar="CFGSYNC_TIMEOUT",
            min=0,
            help="How long --wait-applied waits.",
        ),
    ] = 60.0,
    save_snapshot: Annotated[
        str | None,
        typer.Option(
            "--save-snapshot",
            metavar="FILE",
            envvar="CFGSYNC_SAVE_SNAPSHOT",
            help="Record the fleet for cfgsync check, on the server's machine.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", envvar="CFGSYNC_JSON", help="Print what the server says, as it is.")
    ] = False,
) -> None:
    """Who is here, who is missing, and why it is not ready.

    \b
    Examples:
      cfgsync status
      cfgsync status node-1
      cfgsync status --wait-applied --timeout 30
      cfgsync status --save-snapshot fleet.json

    Exit codes: 0 told; 1 with --wait-applied, when somebody has not; 5 refused, 7 no answer.
    """
    if wait_applied and (identifier is not None or save_snapshot is not None):
        raise typer.BadParameter("it is about the whole fleet, and alone", param_hint="--wait-applied")
    if save_snapshot is not None:
        from .saving import save_snapshot as save

        save(server, save_snapshot)
        return
    try:
        at = ServerUrl.parse(server)
    except InvalidServerUrl as error:
        raise typer.BadParameter(str(error), param_hint="--server") from error
    if wait_applied:
        from .converged import wait_until_applied

        raise typer.Exit(wait_until_applied(at, timeout, json))
    path = "/status" if identifier is None else f"/status/{quote(identifier, safe='')}"
    with Carrier(at) as carrier:
        body = _asked(carrier, at, path)
        try:
            if identifier is not None:
                lines = list(one(msgspec.json.decode(body, type=ToldNode)))
            else:
                fleet = msgspec.json.decode(body, type=ToldFleet)
                lines = list(table(fleet, [] if json else _nodes(fleet, carrier, at)))
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


def _nodes(fleet: ToldFleet, carrier: Carrier, at: ServerUrl) -> Iterator[ToldNode]:
    """Every node: a server tells at most some of them at once, in the order of their names."""
    page = fleet.nodes
    told = 0
    while page:
        yield from page
        told += len(page)
        if told >= fleet.registered:
            return
        more = _asked(carrier, at, f"/status?after={quote(page[-1].identifier, safe='')}")
        page = msgspec.json.decode(more, type=ToldFleet).nodes
