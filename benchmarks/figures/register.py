"""Durable `POST /register` into an ever larger fleet, without and with a node's secret, against bare and etcd's puts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from .. import processes
from ..jobs import Job
from ..scale import Scale
from ..table import Row, microseconds
from ..turns import Best, interleaved


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    size = scale.growing_to // scale.turns
    with ExitStack() as stack:
        bare = stack.enter_context(processes.bare())
        ours = stack.enter_context(processes.fleet_server(scratch / "plain.db", scale.growing_to + 1))
        secret = stack.enter_context(processes.fleet_server(scratch / "secret.db", scale.growing_to))
        etcd = stack.enter_context(processes.etcd(scratch))

        def flood(server: processes.Process, what: str, status: int, turn: int) -> Job:
            count = size if server is ours else scale.requests
            return Job("flood", server.port, server.pid, what, count, status, first=turn * count)

        jobs = {
            "bare": lambda turn: flood(bare, "register", 202, turn),
            "ours": lambda turn: flood(ours, "register", 202, turn),
            "secret": lambda turn: flood(secret, "register_with_secret", 202, turn),
        }
        if etcd is not None:
            jobs["etcd"] = lambda turn: flood(etcd, "etcd_put", 200, turn)
        best = interleaved(scale.turns, jobs)
    b = best["bare"]
    yield _row("/register, durable, against bare", best["ours"], b, "≥0.75")
    yield _row("/register, durable, with a secret, against bare", best["secret"], b, "")
    if "etcd" in best:
        yield _row("/register, durable, against etcd's put", best["ours"], best["etcd"], "≥2")
        yield _row("/register, with a secret, against etcd's put", best["secret"], best["etcd"], "≥1.5")
    else:
        yield Row(
            "/register, durable, against etcd's put", microseconds(best["ours"].processor), "no etcd here"
        )
    (first, first_clock), *_, (last, last_clock) = best["ours"].turns
    yield Row(
        f"/register, the fleet at {scale.growing_to:,} against its first {size:,}",
        microseconds(last),
        microseconds(first),
        first / last,
        "",
        f"{first_clock / last_clock:.2f} ({1 / last_clock:,.0f}/s)",
    )


def _row(figure: str, ours: Best, other: Best, goal: str) -> Row:
    return Row(
        figure,
        microseconds(ours.processor),
        microseconds(other.processor),
        other.processor / ours.processor,
        goal,
        f"{ours.per_second / other.per_second:.2f} ({ours.per_second:,.0f}/s)",
    )
