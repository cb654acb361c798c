"""Many nodes wait: what holding them costs, and how soon all have their answer, against bare releasing one event."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from .. import processes
from ..jobs import Job, run
from ..scale import Scale
from ..table import Row, milliseconds


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    nodes = scale.held
    with ExitStack() as stack:
        ours = stack.enter_context(processes.fleet_server(scratch / "held.db", nodes + 1))
        run(Job("flood", ours.port, ours.pid, "register", nodes, 202))
        mine = run(Job("wake", ours.port, ours.pid, "register", nodes, first=nodes))
    with processes.bare() as bare:
        run(Job("flood", bare.port, bare.pid, "register", nodes, 202))
        theirs = run(Job("wake", bare.port, bare.pid, "release", nodes))
    yield Row(
        f"{nodes:,} held requests, memory each",
        f"{mine.held_bytes / nodes / 1024:.1f} KiB",
        f"{theirs.held_bytes / nodes / 1024:.1f} KiB",
        mine.held_bytes / theirs.held_bytes,
        "≤1.1",
    )
    yield Row(
        f"wake of {nodes:,}: p99 after the first answer",
        milliseconds(mine.p99),
        milliseconds(theirs.p99),
        mine.p99 / theirs.p99,
        "≤1.2",
        f"{mine.last / theirs.last:.2f} (the last after {milliseconds(mine.last)})",
    )
    yield Row(
        f"last registration to last payload, {nodes:,} waiting, in seconds",
        milliseconds(mine.seconds),
        "",
        mine.seconds,
        "≤1",
        f"first after {milliseconds(mine.first)}",
    )
