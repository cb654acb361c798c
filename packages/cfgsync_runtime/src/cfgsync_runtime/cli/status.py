"""`cfgsync status`: the state of the fleet and of each node, as a table or as the server's JSON."""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec.json import decode as decoded

from cfgsync_core import InvalidRegistration, NodeStatus
from cfgsync_core.wire import check_identifier

from .parts.fetch.flags import is_flag
from .parts.fleet_table import Page, is_known, one, table
from .parts.server_client import StatusClient
from .parts.server_flags import DEFAULT_SERVER, AskedServer, asking_a_server


@asking_a_server
def command(
    ctx: typer.Context,
    identifier: Annotated[str | None, typer.Argument(metavar="[ID]", help="One node only.")] = None,
    server: AskedServer = DEFAULT_SERVER,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again whenever it changes, until Ctrl-C.")
    ] = False,
    wait_applied: Annotated[
        bool,
        typer.Option(
            "--wait-applied",
            help="Wait until every node has applied its files, and exit 0; after --timeout, name those that have not, and exit 1.",
        ),
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long --wait-applied waits.")
    ] = 60.0,
    save_snapshot: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Record the fleet for cfgsync check, on the server's machine."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the server's answer unchanged.")] = False,
) -> None:
    """Which nodes are here, which are missing, and why.

    \b
    Examples:
      cfgsync status
      cfgsync status node-1
      cfgsync status --watch
      cfgsync status --wait-applied --timeout 30
      cfgsync status --save-snapshot fleet.json

    The table fits the terminal; off a terminal it has 80 columns, no colours, and with --watch a block for each change.

    Exit codes: 0 shown; 1 no such node, or with --wait-applied a node that has not applied its files; 5 refused, 6 no status, 7 no answer, 130 after Ctrl-C.
    """
    if wait_applied and watch and is_flag(ctx, "wait_applied") != is_flag(ctx, "watch"):
        watch = is_flag(ctx, "watch")  # a flag wins over a variable that says the opposite
        wait_applied = not watch
    if wait_applied and (identifier is not None or save_snapshot is not None or watch):
        raise typer.BadParameter(
            "it waits for the whole fleet: give no ID, --watch or --save-snapshot with it",
            param_hint="--wait-applied",
        )
    if save_snapshot is not None and (identifier is not None or watch):
        raise typer.BadParameter(
            "it records the whole fleet once: give no ID or --watch with it", param_hint="--save-snapshot"
        )
    if identifier is not None:
        try:
            check_identifier(identifier)
        except InvalidRegistration as error:
            why = f"there is no such name as {identifier[:200]!r}: a name is {error.why}"
            raise typer.BadParameter(why, param_hint="ID") from error
    if save_snapshot is not None:
        from .parts.snapshot_file import save_snapshot as save

        save(server, save_snapshot)
        return
    with StatusClient(server, starts_within=0 if wait_applied else None) as client:
        if wait_applied:
            from .parts.wait_applied import wait_until_applied

            raise typer.Exit(wait_until_applied(client, timeout, json))
        if watch:
            from .parts.live_status import watch as watch_it

            watch_it(client, identifier, json)
        elif json:
            body = client.body(identifier)
            print(body.decode(errors="replace"))
            raise typer.Exit(int(identifier is not None and not is_known(decoded(body, type=NodeStatus))))
        elif identifier is not None:
            node = client.node(identifier)
            print("\n".join(one(node, Page.of())))
            raise typer.Exit(int(not is_known(node)))
        else:
            print("\n".join(table(*client.fleet(), Page.of())))
