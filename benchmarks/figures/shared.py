"""A file of 1 MiB that everybody gets: what it costs the server's memory when the whole fleet fetches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .. import processes
from ..jobs import Job, run
from ..materializers import SHARED_BYTES
from ..scale import Scale
from ..table import Row, microseconds

AT_ONCE = 64


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    nodes = scale.fleet
    with processes.fleet_server(scratch / "shared.db", nodes, "Sharing") as server:
        idle = processes.resident_bytes(server.pid)
        run(Job("flood", server.port, server.pid, "register", nodes, 202))
        run(Job("flood", server.port, server.pid, "held_node", 1))
        ready = processes.most_resident_bytes(server.pid)
        result = run(Job("flood", server.port, server.pid, "node", nodes, connections=AT_ONCE))
        most = processes.most_resident_bytes(server.pid)
    yield Row(
        f"a shared MiB fetched by {nodes:,} nodes, {AT_ONCE} at once: memory above idle, in MiB",
        f"{_mib(most - idle):.0f} MiB",
        f"{_mib(ready - idle):.0f} MiB before",
        _mib(most - idle),
        "≤100",
        f"{microseconds(result.processor / nodes)} each, {nodes * SHARED_BYTES / result.seconds / 1e9:.1f} GB/s",
        {"idle": idle, "ready": ready, "most": most},
    )


def _mib(size_bytes: int) -> float:
    return size_bytes / 2**20
