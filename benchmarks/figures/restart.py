"""A restart with a fleet in the store: from the start of the process to its first answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from .. import processes
from ..jobs import Job, run
from ..scale import Scale
from ..table import Row, milliseconds

TURNS = 3


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    took: list[float] = []
    processor: list[float] = []
    store = scratch / "restart.db"
    with processes.fleet_server(store, scale.fleet) as server:
        run(Job("flood", server.port, server.pid, "register", scale.fleet, 202))
        run(Job("flood", server.port, server.pid, "held_node", 1))
    for _ in range(TURNS):
        with processes.fleet_server(store, scale.fleet) as server:
            asked = time.perf_counter()
            processes.ask(server.port, "/node", 1)
            took.append(server.setup_seconds + time.perf_counter() - asked)
            processor.append(processes.processor_seconds(server.pid))
    yield Row(
        f"restart with {scale.fleet:,} registrations to the first answer, in seconds",
        milliseconds(min(took)),
        "",
        min(took),
        "≤0.5",
        f"{milliseconds(min(processor))} of the server's processor",
    )
