"""A fleet boots: every node registers, waits, and gets its 4 KiB."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from .. import processes, words
from ..jobs import Job, run
from ..materializers import NODES, Fleet
from ..scale import Scale
from ..table import Row, milliseconds


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    for nodes in scale.boots:
        with ExitStack() as stack:
            bare = stack.enter_context(processes.bare())
            ours = stack.enter_context(processes.fleet_server(scratch / f"boot-{nodes}.db", nodes))
            run(Job("flood", bare.port, bare.pid, "register", 500, 202))
            yardstick = [
                run(Job("flood", bare.port, bare.pid, what, nodes, status))
                for what, status in (("register", 202), ("node", 200))
            ]
            result = run(Job("boot", ours.port, ours.pid, "register", nodes))
            booting = stack.enter_context(processes.bare(nodes))
            theirs = run(Job("boot", booting.port, booting.pid, "register", nodes))
        clock, processor = sum(r.seconds for r in yardstick), sum(r.processor for r in yardstick)
        decided, written = _own_time(nodes), _one_write(nodes, scratch / "once")
        yield Row(
            f"boot of {nodes:,} against 2N bare; by the clock less the materializer ({milliseconds(decided)})"
            f" and one write ({milliseconds(written)})",
            milliseconds(result.processor),
            milliseconds(processor),
            result.processor / processor,
            "",
            f"{(result.seconds - decided - written) / clock:.2f} ({milliseconds(result.seconds)} in all)",
            {"seconds": result.seconds, "materializer": decided, "write": written},
        )
        yield Row(
            f"boot of {nodes:,} against bare that boots them: a connection each, held, released by the last",
            milliseconds(result.processor),
            milliseconds(theirs.processor),
            result.processor / theirs.processor,
            "≤1.2",
            f"{result.seconds / theirs.seconds:.2f} ({milliseconds(theirs.seconds)} bare)",
        )


def _own_time(nodes: int) -> float:
    from cfgsync_adapter import NodeRegistration, RegistrationSnapshot

    os.environ[NODES] = str(nodes)
    snapshot = RegistrationSnapshot(NodeRegistration(words.identifier(n), "10.0.0.1") for n in range(nodes))
    began = time.perf_counter()
    Fleet().materialize_snapshot(snapshot)
    return time.perf_counter() - began


def _one_write(nodes: int, path: Path) -> float:
    content = words.payload(1).body * nodes
    began = time.perf_counter()
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    took = time.perf_counter() - began
    path.unlink()
    return took
