"""TLS: `/register` and `/node` against bare over TLS, 1,000 handshakes at once against bare's, `fetch` against `curl`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from .. import processes, words
from ..jobs import Job, run
from ..scale import Scale
from ..table import Row, microseconds, milliseconds
from ..turns import Best, interleaved
from .fetch import fetching

SMALL = 10
HANDSHAKES = 1_000


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    subprocess.run(
        [str(processes.CFGSYNC), "tls", "init", "--host", "localhost", "--dir", str(scratch)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    pair, ca = (scratch / "server.pem", scratch / "server.key"), str(scratch / "ca.pem")
    with ExitStack() as stack:
        bare = stack.enter_context(processes.bare(pair=pair))
        ready = stack.enter_context(processes.fleet_server(scratch / "ready.db", SMALL, pair=pair))
        growing = stack.enter_context(
            processes.fleet_server(scratch / "growing.db", scale.growing_to + 1, pair=pair)
        )
        run(Job("flood", ready.port, ready.pid, "register", SMALL, 202, ca=ca))
        run(Job("flood", ready.port, ready.pid, "held_node", 1, ca=ca))

        def asked(server: processes.Process) -> Job:
            return Job("flood", server.port, server.pid, "node", scale.requests, cycle=SMALL, ca=ca)

        def registered(server: processes.Process, turn: int) -> Job:
            first = turn * scale.requests
            return Job("flood", server.port, server.pid, "register", scale.requests, 202, first=first, ca=ca)

        def opened(server: processes.Process) -> Job:
            return Job("handshakes", server.port, server.pid, "", HANDSHAKES, ca=ca)

        best = interleaved(
            scale.turns,
            {
                "bare node": lambda _: asked(bare),
                "node": lambda _: asked(ready),
                "bare register": lambda turn: registered(bare, turn),
                "register": lambda turn: registered(growing, turn),
                "bare handshake": lambda _: opened(bare),
                "handshake": lambda _: opened(ready),
            },
        )
        fetches = _fetches(scale, scratch, ready.port, ca)
    yield _row("/node over TLS, 4 KiB, against bare over TLS", best["node"], best["bare node"], "≥0.95")
    yield _row(
        "/register over TLS, durable, against bare over TLS", best["register"], best["bare register"], ""
    )
    ours, theirs = best["handshake"], best["bare handshake"]
    yield Row(
        f"a TLS handshake, {HANDSHAKES:,} at once, against bare's",
        microseconds(ours.processor),
        microseconds(theirs.processor),
        ours.processor / theirs.processor,
        "≤1.2",
        f"{ours.seconds / theirs.seconds:.2f} (all after {milliseconds(ours.seconds * HANDSHAKES)})",
    )
    if "curl" not in fetches:
        yield Row(
            "cfgsync fetch over TLS against curl over TLS", milliseconds(fetches["fetch"][0]), "no curl here"
        )
        return
    for what, said in (("fetch", "by --ca-file"), ("pinned", "by --ca-hash")):
        (ours_cpu, ours_clock), (curl_cpu, curl_clock) = fetches[what], fetches["curl"]
        yield Row(
            f"cfgsync fetch over TLS, {said}, against curl's /register and /node over TLS",
            milliseconds(ours_cpu),
            milliseconds(curl_cpu),
            ours_cpu / curl_cpu,
            "",
            f"{ours_clock / curl_clock:.2f} ({milliseconds(ours_clock)}; plain HTTP: see `fetch`)",
        )


def _fetches(scale: Scale, scratch: Path, port: int, ca: str) -> dict[str, tuple[float, float]]:
    """The least processor time and time by the clock of each kind of process."""
    shown = subprocess.run(
        [str(processes.CFGSYNC), "tls", "show", ca], check=True, capture_output=True, text=True
    )
    pinned = shown.stdout.split()[-1]
    best: dict[str, tuple[float, float]] = {}
    url = f"https://localhost:{port}"
    for number in range(min(scale.fetches, SMALL)):
        fetch = fetching(url, words.identifier(number), scratch)
        commands: dict[str, Sequence[str]] = {}
        if shutil.which("curl") is not None:  # before the name has a secret
            post = ["--fail", "--cacert", ca, "-X", "POST", "-H", "Content-Type: application/json"]
            post += ["-d", words.registration(number).decode(), "-o", "/dev/null"]
            commands["curl"] = ["curl", "-s", *post, f"{url}/register", "--next", "-s", *post, f"{url}/node"]
        commands["fetch"] = [*fetch, "--ca-file", ca]
        commands["pinned"] = [*fetch, "--ca-hash", pinned]
        for what, command in commands.items():
            took = processes.spent(command)
            before = best.get(what, took)
            best[what] = (min(before[0], took[0]), min(before[1], took[1]))
    return best


def _row(figure: str, ours: Best, other: Best, goal: str) -> Row:
    return Row(
        figure,
        microseconds(ours.processor),
        microseconds(other.processor),
        other.processor / ours.processor,
        goal,
        f"{ours.per_second / other.per_second:.2f} ({ours.per_second:,.0f}/s)",
    )
