"""`cfgsync demo`: a whole boot on this machine, watched live; it leaves nothing behind without --keep."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Annotated

import typer

from cfgsync_core import CfgsyncError
from cfgsync_core.text import counted

from .parts.messages import fail
from .parts.terminal import is_live

if TYPE_CHECKING:
    from ..demo.boot import Reporter

MAX_NODES = 1000
MAX_SERVERS = 9


def command(
    nodes: Annotated[int, typer.Option(metavar="N", min=1, max=MAX_NODES, help="How many nodes boot.")] = 50,
    keep: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write below DIR (new or empty), and leave it there.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="An empty store for the registrations.  [default: SQLite, for this demo]"
        ),
    ] = None,
    servers: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=MAX_SERVERS,
            help="So many servers on one store; one is killed in the middle.",
        ),
    ] = 1,
) -> None:
    """A whole boot on this machine, watched live: server, nodes, files on disk.

    \b
    Examples:
      cfgsync demo
      cfgsync demo --nodes 10 --keep fleet
      cfgsync demo --servers 3 --store postgresql://localhost/demo
    """
    try:
        if keep is None:
            with tempfile.TemporaryDirectory(prefix="cfgsync-demo-") as directory:
                took = _run(nodes, directory, store, servers)
            left = "its files are removed again; to look at them: cfgsync demo --keep DIR"
        else:
            os.makedirs(keep, exist_ok=True)
            if os.listdir(keep):
                raise typer.BadParameter(f"{keep} is not empty", param_hint="--keep")
            took = _run(nodes, os.path.abspath(keep), store, servers)
            left = f"its files are in {keep}"
    except BrokenPipeError:
        raise  # the reader has left: no fault of a directory
    except OSError as error:
        why = ": ".join(part for part in (error.filename, error.strerror) if part) or str(error)
        raise typer.Exit(fail(1, why, "give another directory: --keep DIR")) from error
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    except CfgsyncError as error:
        raise typer.Exit(fail(1, str(error), getattr(error, "hint", ""))) from error
    print(f"{nodes} of {counted(nodes, 'node')} booted in {took:.1f} s; {left}")


def _run(nodes: int, directory: str, store: str | None, servers: int) -> float:
    # imported here: --help and refusals need no web server
    from ..demo.boot import Lines
    from ..demo.fleet import PROCESSES
    from ..listening import raise_file_limit

    raise_file_limit()
    processes = min(nodes, PROCESSES)
    tasks = f", {nodes - processes} are tasks of this process" if nodes > processes else ""
    if is_live(sys.stdout):
        from .parts.live_demo import LiveDemo  # loads rich

        of = f"{processes} of them processes" if processes > 1 else "1 process"
        with LiveDemo(f"{counted(nodes, 'node')}, one machine, {of}", nodes) as audience:
            return asyncio.run(_until_terminated(nodes, directory, audience, store, servers))
    run = "1 is a `cfgsync fetch` process" if processes == 1 else f"{processes} are `cfgsync fetch` processes"
    print(f"{counted(nodes, 'node')}, one machine: {run}{tasks}", flush=True)
    lines = Lines(lambda line: print(line, flush=True))
    return asyncio.run(_until_terminated(nodes, directory, lines, store, servers))


async def _until_terminated(
    nodes: int, directory: str, audience: Reporter, store: str | None, servers: int
) -> float:
    """Boot; SIGTERM cancels it, so that processes and files are removed as after Ctrl-C."""
    from ..demo.boot import boot

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await boot(nodes, directory, audience, store, servers)
