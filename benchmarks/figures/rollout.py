"""Nodes that take turns: a boot costs what it costs with `--rollout all`, and a change what its programs take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cfgsync_adapter import Rollout

from .. import processes
from ..jobs import Job, run
from ..scale import Scale
from ..table import Row, milliseconds

PROGRAM = 0.2
"""Seconds that a program takes to prove new files."""
BEYOND = 0.1
"""Seconds that a turn may take beyond them."""


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    nodes, turns = scale.watchers, scale.turns - 1
    best: dict[str, tuple[float, float]] = {}
    for turn in range(turns):
        for name, what, options in (
            ("all", "", ("--rollout", "all")),
            ("rolling", "", ()),
            ("halted", "halted", ()),
        ):
            with processes.fleet_server(scratch / f"{name}-{turn}.db", 0, "Told", options=options) as ours:
                result = run(Job("boot_beside", ours.port, ours.pid, what, nodes))
            took = result.processor, result.seconds
            best[name] = took if name not in best else tuple(map(min, took, best[name]))
    for name, words in (("rolling", "rolling"), ("halted", "the fleet of before is halted")):
        yield Row(
            f"boot of {nodes:,} that take turns, {words}, against --rollout all",
            milliseconds(best[name][0]),
            milliseconds(best["all"][0]),
            best[name][0] / best["all"][0],
            "≤1.2",
            f"{best[name][1] / best['all'][1]:.2f} ({milliseconds(best[name][1])})",
        )
    for many, options in ((20, ("--max-parallel", "1")), (nodes, ())):
        with processes.fleet_server(scratch / f"roll-{many}.db", 0, "Told", options=options) as ours:
            result = run(Job("roll", ours.port, ours.pid, "", many, interval=PROGRAM))
        places = 1 if options else Rollout().places(many)  # the large one is as fast as this machine, too
        waves = waves_of(many, places)
        beyond = result.seconds / waves - PROGRAM
        yield Row(
            f"change of {many:,} in {waves} waves of at most {places}: a wave beyond the program's {milliseconds(PROGRAM)}",
            milliseconds(beyond),
            milliseconds(BEYOND),
            beyond / BEYOND,
            "≤1" if options else "",
            f"{milliseconds(result.seconds)} in all, {milliseconds(result.processor)} of the server's processor",
            {"seconds": result.seconds},
        )


def waves_of(nodes: int, places: int) -> int:
    """How many waves a change takes: each is at most as large as what came through before."""
    through = waves = 0
    while through < nodes:
        through += min(places, max(1, through))
        waves += 1
    return waves
