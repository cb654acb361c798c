"""What the load generator is asked, and what it answers."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from .processes import ROOT

JOB_SECONDS = 120.0


class Job(msgspec.Struct, omit_defaults=True):
    """`flood`: `count` requests `what` spread over `connections`, identifiers from `first` on, modulo `cycle`.
    `boot`: `count` nodes at once, each `register`, then `held_node`, each on a connection of its own.
    `wake`: `count` nodes ask `held_node`; when all are held, one request `what` numbered `first` frees them.
    `handshakes`: `count` connections are opened at once, and nothing is asked.
    `follow` and `idle`: `count` nodes that watch, see `watchers.py`: every `interval` seconds, hinted if `held`, through
    `turns` changes. `boot_beside` and `roll`: `count` nodes that take turns, see `takers.py`."""

    kind: str
    port: int
    pid: int
    what: str
    count: int
    status: int = 200
    connections: int = 64
    first: int = 0
    cycle: int = 0
    interval: float = 15.0
    held: bool = True
    turns: int = 1
    fellows: tuple[tuple[int, int], ...] = ()
    """Port and process of more servers of the same store: the connections are dealt out among all, and `processor` is their
    sum."""
    ca: str = ""
    """The CA file that verifies the server: with one, every connection speaks TLS."""

    @property
    def ports(self) -> list[int]:
        return [self.port, *(port for port, _ in self.fellows)]

    @property
    def pids(self) -> list[int]:
        return [self.pid, *(pid for _, pid in self.fellows)]


class Result(msgspec.Struct, omit_defaults=True):
    """`seconds` on the clock, `processor` seconds of the server; of `wake`: seconds after the trigger and after the
    first answer, and what the server grew by while it held everybody; of `idle`: how many `answers` it gave."""

    seconds: float
    processor: float
    first: float = 0.0
    p99: float = 0.0
    last: float = 0.0
    held_bytes: int = 0
    largest_bytes: int = 0
    answers: int = 0


def run(job: Job) -> Result:
    """Do `job` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=msgspec.json.encode(job),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=JOB_SECONDS,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Result)
