"""`POST /node` of a ready payload: against bare, and of a large fleet against a small one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from .. import processes
from ..jobs import Job, run
from ..scale import Scale
from ..table import Row, microseconds
from ..turns import interleaved

SMALL = 10


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    with ExitStack() as stack:
        bare = stack.enter_context(processes.bare())
        small = stack.enter_context(processes.fleet_server(scratch / "small.db", SMALL))
        large = stack.enter_context(processes.fleet_server(scratch / "large.db", scale.fleet))
        for server, nodes in ((small, SMALL), (large, scale.fleet)):
            run(Job("flood", server.port, server.pid, "register", nodes, 202))
            run(Job("flood", server.port, server.pid, "held_node", 1))

        def questions(server: processes.Process, nodes: int) -> Job:
            return Job("flood", server.port, server.pid, "node", scale.requests, cycle=nodes)

        best = interleaved(
            scale.turns,
            {
                "bare": lambda _: questions(bare, SMALL),
                "small": lambda _: questions(small, SMALL),
                "large": lambda _: questions(large, scale.fleet),
            },
        )
    b, s, n = best["bare"], best["small"], best["large"]
    yield Row(
        "/node, ready, 4 KiB, against bare",
        microseconds(s.processor),
        microseconds(b.processor),
        b.processor / s.processor,
        "≥1.3",
        f"{s.per_second / b.per_second:.2f} ({s.per_second:,.0f}/s)",
    )
    yield Row(
        f"/node, N = {scale.fleet:,} against N = {SMALL}",
        microseconds(n.processor),
        microseconds(s.processor),
        s.processor / n.processor,
        "≥0.95",
        f"{n.per_second / s.per_second:.2f} ({n.per_second:,.0f}/s)",
    )
