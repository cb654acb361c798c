"""Config documents: a read, a snapshot that is known, patches of 64 writers to one document, and from a set to a callback."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from .. import processes, words
from ..jobs import Job, run
from ..scale import Scale
from ..table import Row, microseconds, milliseconds
from ..turns import Best, interleaved

WRITERS = 64
SPACING = 0.02
"""Seconds between a callback and the next set, in which the program holds its next read."""


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    with ExitStack() as stack:
        bare = stack.enter_context(processes.bare())
        ours = stack.enter_context(processes.document_server(scratch / "documents.db"))
        run(Job("flood", ours.port, ours.pid, "set_document", 1))
        count = scale.requests

        def flood(server: processes.Process, what: str, status: int, turn: int) -> Job:
            first = turn * count
            return Job("flood", server.port, server.pid, what, count, status, WRITERS, first)

        kinds = {
            "read": ("read_document", 200),
            "304": ("known_snapshot", 304),
            "patch": ("patch_document", 200),
        }
        best = interleaved(
            scale.turns,
            {
                (f"{whose} {name}"): (
                    lambda turn, server=server, what=what, status=status: flood(server, what, status, turn)
                )
                for name, (what, status) in kinds.items()
                for whose, server in (("bare", bare), ("ours", ours))
            },
        )
        kept = _read(ours.port)["revision"]
        if kept != 1 + scale.turns * count:
            raise RuntimeError(f"{1 + scale.turns * count - kept} of {scale.turns * count} patches were lost")
        took = _callbacks(ours.port, scale.requests // 50)
    yield _row("a document of 4 KiB, read, against bare", best["ours read"], best["bare read"], "≥0.9")
    yield _row("a known snapshot, 304, against bare", best["ours 304"], best["bare 304"], "≥0.9")
    yield _row(
        f"a patch, durable, {WRITERS} writers, none lost, against bare",
        best["ours patch"],
        best["bare patch"],
        "≥0.3",
    )
    p99 = took[int(len(took) * 0.99) - 1]
    yield Row(
        "from a set to the callback in another process, p99, against 50 ms",
        milliseconds(p99),
        milliseconds(0.05),
        p99 / 0.05,
        "≤1",
        f"half within {milliseconds(took[len(took) // 2])}",
        {"p99": p99},
    )


def _row(figure: str, ours: Best, bare: Best, goal: str) -> Row:
    return Row(
        figure,
        microseconds(ours.processor),
        microseconds(bare.processor),
        bare.processor / ours.processor,
        goal,
        f"{ours.per_second / bare.per_second:.2f} ({ours.per_second:,.0f}/s)",
    )


def _read(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{words.DOCUMENT}", timeout=10) as answer:
        found: dict[str, int] = json.loads(answer.read())
    return found


def _callbacks(port: int, count: int) -> list[float]:
    """Seconds from each set to its callback, sorted."""
    took: list[float] = []
    with processes.callbacks(port) as program:
        assert program.stdout is not None
        for _ in range(count):
            body = json.dumps({"at": time.monotonic()}).encode()
            url = f"http://127.0.0.1:{port}/api/v1/config/clock"
            asked = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
            urllib.request.urlopen(asked, timeout=10).close()
            took.append(float(program.stdout.readline()))
            time.sleep(SPACING)
    return sorted(took)
