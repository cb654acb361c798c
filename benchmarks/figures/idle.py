"""Watchers with nothing to do: which share of a core they cost their server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .. import processes
from ..jobs import Job, run
from ..scale import Scale
from ..table import Row, microseconds


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    many, interval = scale.idle, scale.idle_interval
    with processes.fleet_server(scratch / "idle.db", 0, "Told") as ours:
        mine = run(Job("idle", ours.port, ours.pid, "node", many, interval=interval))
    with processes.bare(many + 1) as bare:
        theirs = run(Job("idle", bare.port, bare.pid, "node", many, interval=interval))
    share = mine.processor / mine.seconds
    yield Row(
        f"{many:,} idle watchers that ask every {interval:g} s, of a core",
        f"{share:.1%}",
        f"{theirs.processor / theirs.seconds:.1%}",
        share,
        "≤0.06",
        f"{mine.answers} questions, {microseconds(mine.processor / mine.answers)} each",
    )
    yield Row(
        "a question of an idle watcher",
        microseconds(mine.processor / mine.answers),
        microseconds(theirs.processor / theirs.answers),
        mine.processor / mine.answers * theirs.answers / theirs.processor,
    )
