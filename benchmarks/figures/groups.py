"""Group commit: durable registrations per second by how many ask at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .. import processes
from ..jobs import Job, run
from ..scale import Scale
from ..table import Row, microseconds

CONNECTIONS = (1, 8, 64, 512)


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    first = 0
    with processes.fleet_server(scratch / "groups.db", 10**9) as server:
        for connections in CONNECTIONS:
            count = min(scale.requests, 300 * connections)
            job = Job("flood", server.port, server.pid, "register", count, 202, connections, first)
            first += count
            result = run(job)
            yield Row(
                f"/register, {connections} at once",
                microseconds(result.processor / count),
                "",
                clock=f"{count / result.seconds:,.0f}/s",
            )
