"""Durable `POST /register`, `POST /node` and a change's way to the last watcher: on SQLite, on PostgreSQL, and with three servers.

By the clock: much of an engine's work is in PostgreSQL's own processes, which share the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.postgres import Postgres, installed

from .. import processes
from ..jobs import Job, run
from ..scale import Scale
from ..table import Row, milliseconds
from ..turns import Best, interleaved

SMALL = 10
CONNECTIONS = 64
"""For each server: a group is what waits while the one before it is written, and each server has groups of its own."""
SQLITE, ONE, THREE = "SQLite", "PostgreSQL", "three servers on PostgreSQL"


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    programs = installed()
    if programs is None:
        yield Row("/register, durable, on PostgreSQL", "no PostgreSQL here", "")
        return
    with ExitStack() as stack:
        database = Postgres(programs, memory=None)
        stack.callback(database.remove)
        yield from _floods(scale, scratch, database)
        yield from _changes(scale, database)


def _floods(scale: Scale, scratch: Path, database: Postgres) -> Iterator[Row]:
    count = scale.requests // 2
    with ExitStack() as stack:
        servers = _servers(stack, scratch, database, "growing", 10**9)
        etcd = stack.enter_context(processes.etcd(scratch))
        if etcd is not None:
            servers["etcd"] = [etcd]

        def registrations(name: str) -> Callable[[int], Job]:
            what, status = ("etcd_put", 200) if name == "etcd" else ("register", 202)
            return lambda turn: _job(servers[name], "flood", what, count, status, first=turn * count)

        yield from _rows(
            "/register, durable", interleaved(scale.turns, {n: registrations(n) for n in servers})
        )
    with ExitStack() as stack:
        servers = _servers(stack, scratch, database, "ready", SMALL)
        for some in servers.values():
            run(_job(some, "flood", "register", SMALL, 202))
            if some is not servers["bare"]:
                run(_job(some, "flood", "held_node", 3 * SMALL, cycle=SMALL))

        def questions(name: str) -> Callable[[int], Job]:
            return lambda _: _job(servers[name], "flood", "node", count, cycle=SMALL)

        yield from _rows("/node, ready, 4 KiB", interleaved(scale.turns, {n: questions(n) for n in servers}))


def _servers(
    stack: ExitStack, scratch: Path, database: Postgres, store: str, nodes: int
) -> dict[str, list[processes.Process]]:
    def start(store: Path | str, many: int = 1) -> list[processes.Process]:
        return [stack.enter_context(processes.fleet_server(store, nodes)) for _ in range(many)]

    return {
        SQLITE: start(scratch / f"{store}.db"),
        ONE: start(database.url(store)),
        THREE: start(database.url(f"{store}_three"), 3),
        "bare": [stack.enter_context(processes.bare())],
    }


def _rows(what: str, best: dict[str, Best]) -> Iterator[Row]:
    for yardstick in ("bare", "etcd"):
        if yardstick in best:
            for ours in (SQLITE, ONE, THREE):
                yield _row(f"{what}, {ours}, against {yardstick}", best[ours], best[yardstick])
    yield _row(f"{what}, {ONE} against {SQLITE}", best[ONE], best[SQLITE], "≥0.5")
    yield _row(f"{what}, {THREE} against one", best[THREE], best[ONE], "≥0.9")


def _changes(scale: Scale, database: Postgres) -> Iterator[Row]:
    took = {}
    for many in (1, 3):
        with ExitStack() as stack:
            url = database.url(f"told_{many}")
            some = [stack.enter_context(processes.fleet_server(url, 0, "Told")) for _ in range(many)]
            took[many] = run(_job(some, "follow", "node", scale.watchers, turns=scale.turns + 4))
    three, one = took[3], took[1]
    yield Row(
        f"change to the last of {scale.watchers:,} watchers applied, {THREE} against one",
        milliseconds(three.seconds),
        milliseconds(one.seconds),
        three.seconds / one.seconds,
        clock=f"worst {milliseconds(three.last)}",
        more={"seconds": three.seconds, "worst": three.last},
    )


def _job(
    servers: list[processes.Process], kind: str, what: str, count: int, status: int = 200, **more: int
) -> Job:
    fellows = tuple((one.port, one.pid) for one in servers[1:])
    connections = CONNECTIONS * len(servers)
    return Job(
        kind, servers[0].port, servers[0].pid, what, count, status, connections, fellows=fellows, **more
    )


def _row(figure: str, ours: Best, other: Best, goal: str = "") -> Row:
    return Row(
        figure,
        f"{ours.per_second:,.0f}/s",
        f"{other.per_second:,.0f}/s",
        ours.per_second / other.per_second,
        goal,
        f"{ours.processor * 1e6:.0f} µs of the servers' processor",
    )
