"""`cfgsync rollout …`: how far a change has come in the fleet, and what an operator says to it."""

from __future__ import annotations

import time
from typing import Annotated, Final

import msgspec
import typer

from cfgsync_core import FleetStatus
from cfgsync_core.text import plain
from cfgsync_core.wire import RolloutStatus

from .app import PLAIN
from .parts.fleet_table import Page, wrapped
from .parts.messages import fail
from .parts.server_client import OperatorClient, StatusClient
from .parts.server_flags import DEFAULT_SERVER, AsJson, AskedServer, asking_a_server

app = typer.Typer(no_args_is_help=True, **PLAIN)

EVERY: Final = 1.0
ROUTE: Final = "/admin/rollout"
REASON: Final = 1_000
COLOURS: Final = {"idle": "green", "rolling": "cyan", "canary": "yellow", "paused": "yellow", "halted": "red"}


@app.callback()
def group() -> None:
    """How far a change has come in the fleet; stop it, go on, or take it back.

    \b
    Examples:
      cfgsync rollout status --watch
      cfgsync rollout resume
      cfgsync rollout revert
    """


@app.command(short_help="How far the current generation has come.")
@asking_a_server
def status(
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Show it whenever it changes, until all nodes have it or it halts."),
    ] = False,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """How far the current generation has come: its state, the nodes that are through, and those that failed, with their
    own words.

    \b
    Examples:
      cfgsync rollout status
      cfgsync rollout status --watch

    The state is idle (all nodes have it), rolling, canary, paused or halted. With --watch it ends when all nodes have it, or
    at a halt, and not while a node is in transition or about to try again after cfgsync rollout retry. Exit codes: 0
    shown, 1 halted, 5 refused, 7 no answer, 130 after Ctrl-C.
    """
    last = ""
    with StatusClient(server, as_operator=True) as client:
        while True:
            fleet = client.status("/status?limit=1", FleetStatus)
            found = fleet.rollout or RolloutStatus(state="idle", generation=fleet.generation or "")
            shown = _json(found) if json else "\n".join(_lines(found, is_used=bool(fleet.rollout)))
            if shown != last:
                print(shown, flush=True)
                last = shown
            if not watch or found.state == "idle" or found.is_stuck:
                raise typer.Exit(int(found.state == "halted"))
            time.sleep(EVERY)


def _add(action: str, short: str, words: str) -> None:
    """A command that only says its name."""

    @app.command(action, short_help=short, help=f"{words}\n\n\b\nExample:\n  cfgsync rollout {action}\n")
    @asking_a_server
    def command(server: AskedServer = DEFAULT_SERVER, json: AsJson = False) -> None:
        _say(server, action, json)


_add(
    "pause",
    "Give no more turns; nodes that have one go on.",
    "Give no more turns until resume; nodes that have a turn go on. A new generation waits, too.",
)
_add(
    "resume",
    "Go on after a pause, a canary or a halt.",
    "Go on after a pause, a canary or a halt. Failed nodes are left behind: they are named until they have files that work.",
)
_add(
    "retry",
    "Let the failed nodes try the same files again.",
    "Let the failed nodes try the same files again, before any other node does. When all of them succeed, the halt ends.",
)
_add(
    "promote",
    "Give the current generation to every node now.",
    "Give the current generation to every node now: all programs may restart at the same time.",
)


@app.command(short_help="Go back to files that all nodes came through.")
@asking_a_server
def revert(
    to: Annotated[
        int | None, typer.Option("--to", metavar="N", min=1, help="The generation to go back to.")
    ] = None,
    server: AskedServer = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Go back to the files of the last generation that all nodes came through, or to those of generation N, as a new
    generation. Nodes that never left them are not restarted.

    The fleet is frozen then, and changed registrations and documents wait: cfgsync generation rebuild, or another
    --revision of the server, ends that.

    \b
    Examples:
      cfgsync rollout revert
      cfgsync rollout revert --to 12
    """
    _say(server, "revert", json, to)


def _say(server: AskedServer, action: str, json: bool, to: int | None = None) -> None:
    """Send a command about the generation that is current now."""
    with OperatorClient(server) as client:
        fleet = client.status("/status?limit=1", FleetStatus)
        if fleet.generation is None:
            raise typer.Exit(fail(1, "there is no generation yet", "cfgsync status says why"))
        body = {"action": action, "generation": fleet.generation, "to": to}
        answer = client.post(ROUTE, msgspec.json.encode(body))
        found = client.decoded(ROUTE, answer, RolloutStatus)
    print(_json(found) if json else "\n".join(_lines(found, is_used=True)))


def _lines(found: RolloutStatus, *, is_used: bool) -> list[str]:
    if not is_used:
        return ["no node takes turns here: changes reach every node at once"]
    page = Page.of()
    lines = [*wrapped(plain(found.head, REASON), page, COLOURS.get(found.state, ""))]
    if found.on_it:
        more = found.in_transition - len(found.on_it)
        names = ", ".join(map(plain, found.on_it)) + (f" and {more} more" if more > 0 else "")
        lines += wrapped(f"in transition: {names}", page)
    for one in found.failed:
        behind = " (left behind)" if one.left_behind else ""
        last = f"; its last lines: {one.words}" if one.words else ""
        lines += wrapped(
            f"failed{behind}: {plain(one.identifier)}: {plain(one.reason + last, 3 * REASON)}", page, "red"
        )
    return lines


def _json(found: RolloutStatus) -> str:
    return msgspec.json.encode(found).decode()
