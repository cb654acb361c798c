"""`cfgsync status --save-snapshot FILE`: one cut of the fleet, page by page, written whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import typer

from cfgsync_artifacts import DiskError, replace_file
from cfgsync_core.text import counted, plain

from ...operator.recording import SnapshotPage, joined
from .messages import fail
from .server_client import OperatorClient, ServerClient
from .server_flags import AskedServer

ROUTE: Final = "/admin/snapshot"
TRIES: Final = 3


def save_snapshot(server: AskedServer, file: str) -> None:
    """Write the fleet's snapshot, readable by its owner only since metadata may be secret, and print a summary of it."""
    for _ in range(TRIES):
        with OperatorClient(server) as client:
            pages = list(_pages(client))
        if pages[-1].next is None:
            break
    else:
        raise typer.Exit(
            fail(
                1,
                "another program saves snapshots of this server at the same time",
                "run it again in a moment",
            )
        )
    recorded = joined(pages)
    try:
        replace_file(file, msgspec.json.format(msgspec.json.encode(recorded), indent=1) + b"\n", 0o600)
    except DiskError as error:
        raise typer.Exit(fail(8, str(error), error.hint)) from error
    generation = (
        "no generation" if recorded.generation is None else f"generation {recorded.generation.number}"
    )
    print(
        f"{file}: {counted(len(recorded.registrations), 'node')} registered, {generation} at {plain(recorded.taken_at)}"
    )


def _pages(client: ServerClient) -> Iterator[SnapshotPage]:
    """The pages of one cut; the last one has a `next` when the server forgot the cut between two of them."""
    page = client.get(ROUTE, {}, SnapshotPage)
    while page is not None:
        yield page
        if page.next is None:
            return
        page = client.get(ROUTE, {"cut": page.cut, "after": page.next}, SnapshotPage, missing=True)
