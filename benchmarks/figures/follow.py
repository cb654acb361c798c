"""A change of everybody's files: from the moment it is durable to the last watcher that has applied it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .. import processes
from ..jobs import Job, run
from ..scale import Scale
from ..table import Row, milliseconds

INTERVAL = 1.0


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    many = scale.watchers
    with processes.bare() as bare:
        run(Job("flood", bare.port, bare.pid, "register", many, 202))
        theirs = run(Job("wake", bare.port, bare.pid, "release", many))
    with processes.fleet_server(scratch / "hinted.db", 0, "Told") as ours:
        job = Job("follow", ours.port, ours.pid, "node", many, turns=scale.turns + 4)
        hinted = run(job)
    with processes.fleet_server(scratch / "unhinted.db", 0, "Told") as ours:
        job = Job(
            "follow", ours.port, ours.pid, "node", many, turns=scale.turns, held=False, interval=INTERVAL
        )
        unhinted = run(job)
    yield Row(
        f"change to the last of {many:,} watchers applied, against bare releasing as many",
        milliseconds(hinted.processor),
        milliseconds(theirs.processor),
        hinted.processor / theirs.processor,
        "≤4",
        f"{hinted.seconds / theirs.seconds:.2f} ({milliseconds(hinted.seconds)}, worst {milliseconds(hinted.last)})",
        {"seconds": hinted.seconds, "worst": hinted.last},
    )
    yield Row(
        f"the same with every hint lost, against its interval of {INTERVAL:g} s, by the clock",
        milliseconds(unhinted.seconds),
        milliseconds(INTERVAL),
        unhinted.seconds / INTERVAL,
        "≤2.5",
        f"worst {milliseconds(unhinted.last)}",
        {"seconds": unhinted.seconds, "worst": unhinted.last},
    )
