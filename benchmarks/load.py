"""The load generator, a process of its own: requests built beforehand, one at a time on each connection.

`python -m benchmarks.load` reads one `Job` (JSON) and prints one `Result`. An answer of another status ends it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle

import msgspec

from . import takers, watchers, words
from .jobs import Job, Result
from .processes import processor_seconds, resident_bytes

IDLE_SECONDS = 0.15
LONGEST_SETTLING = 10.0


class Failed(Exception):
    """The server said what the job does not expect."""


class Connection(asyncio.Protocol):
    """Sends the next of `requests` when the answer to the last is whole; `done` resolves after the last one."""

    def __init__(
        self,
        requests: Iterator[tuple[bytes, bytes]],
        done: asyncio.Future[None],
        at: list[float] | None = None,
    ) -> None:
        self._requests = requests
        self._done = done
        self._at = at
        self._buffer = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def send(self) -> None:
        following = next(self._requests, None)
        if following is None:
            if not self._done.done():
                self._done.set_result(None)
            return
        request, self._status = following
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
            if self._missing > 0:
                return
        else:
            if self._buffer:
                data = self._buffer + data
            head = data.find(b"\r\n\r\n")
            if head < 0:
                self._buffer = data
                return
            self._buffer = b""
            if data[9:12] != self._status:
                self._fail(Failed(data[:400].decode(errors="replace")))
                return
            at = data.find(b"Content-Length: ", 0, head)
            length = int(data[at + 16 : data.index(b"\r\n", at)]) if at > 0 else 0
            self._missing = head + 4 + length - len(data)
            if self._missing > 0:
                return
        self._missing = 0
        if self._at is not None:
            self._at.append(time.perf_counter())
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or Failed("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)


async def connect(
    port: int,
    requests: Iterator[tuple[bytes, bytes]],
    at: list[float] | None = None,
    tls: ssl.SSLContext | None = None,
) -> tuple[Connection, asyncio.Future[None]]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    _, protocol = await loop.create_connection(
        lambda: Connection(requests, done, at),
        "127.0.0.1",
        port,
        ssl=tls,
        server_hostname="localhost" if tls else None,
    )
    return protocol, done


def trusting(job: Job) -> ssl.SSLContext | None:
    """What verifies the server of a job that has a CA file."""
    return ssl.create_default_context(cafile=job.ca) if job.ca else None


async def connect_all(
    ports: Sequence[int],
    scripts: Iterable[Iterator[tuple[bytes, bytes]]],
    at: list[float] | None = None,
    tls: ssl.SSLContext | None = None,
) -> list[tuple[Connection, asyncio.Future[None]]]:
    """The connections are dealt out among the servers."""
    made: list[tuple[Connection, asyncio.Future[None]]] = []
    waiting = list(zip(cycle(ports), scripts))
    for start in range(0, len(waiting), 100):  # fewer than the backlog at once
        some = waiting[start : start + 100]
        made += await asyncio.gather(*(connect(port, script, at, tls) for port, script in some))
    return made


async def flood(job: Job) -> Result:
    build = getattr(words, job.what)
    status = str(job.status).encode()
    numbers = range(job.first, job.first + job.count)
    requests = iter([(build(n % job.cycle if job.cycle else n), status) for n in numbers])
    made = await connect_all(job.ports, [requests] * job.connections, tls=trusting(job))
    return await _timed(job, made)


async def boot(job: Job) -> Result:
    at: list[float] = []
    scripts = [
        iter([(words.register(n), b"202"), (words.held_node(n), b"200")])
        for n in range(job.first, job.first + job.count)
    ]
    return await _timed(job, await connect_all(job.ports, scripts, at))


async def handshakes(job: Job) -> Result:
    tls = trusting(job)
    cpu, began = processor_seconds(job.pid), time.perf_counter()
    made = await asyncio.gather(*(connect(job.port, iter(()), tls=tls) for _ in range(job.count)))
    seconds = time.perf_counter() - began
    await _settled(job.pid)
    if lost := sum(done.done() for _, done in made):
        raise Failed(f"{lost} connections were closed")
    return Result(seconds, processor_seconds(job.pid) - cpu)


async def wake(job: Job) -> Result:
    at: list[float] = []
    scripts = [iter([(words.held_node(n), b"200")]) for n in range(job.count)]
    trigger = iter([(getattr(words, job.what)(job.first), b"202")])
    before = resident_bytes(job.pid)
    made = await connect_all(job.ports, scripts, at)
    for connection, _ in made:
        connection.send()
    await _settled(job.pid)
    held = resident_bytes(job.pid)
    if at:
        raise Failed(f"{len(at)} were answered instead of held")
    starter, told = await connect(job.port, trigger)
    cpu, began = processor_seconds(job.pid), time.perf_counter()
    starter.send()
    await asyncio.gather(told, *(done for _, done in made))
    at.sort()
    return Result(
        at[-1] - began,
        processor_seconds(job.pid) - cpu,
        first=at[0] - began,
        p99=at[int(len(at) * 0.99) - 1] - at[0],
        last=at[-1] - at[0],
        held_bytes=held - before,
        largest_bytes=resident_bytes(job.pid),
    )


async def _timed(job: Job, made: list[tuple[Connection, asyncio.Future[None]]]) -> Result:
    cpu, began = processor_seconds(*job.pids), time.perf_counter()
    for connection, _ in made:
        connection.send()
    await asyncio.gather(*(done for _, done in made))
    seconds = time.perf_counter() - began
    return Result(seconds, processor_seconds(*job.pids) - cpu)


async def _settled(pid: int) -> None:
    """Return when the server has been idle for a moment: all that was sent has been read."""
    until = time.monotonic() + LONGEST_SETTLING
    quiet, last = 0, -1.0
    while quiet < 3 and time.monotonic() < until:
        await asyncio.sleep(IDLE_SECONDS)
        now = processor_seconds(pid)
        quiet = quiet + 1 if now - last < 0.02 else 0
        last = now


def main() -> None:
    logging.disable(logging.WARNING)  # what watchers wait for
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    kinds = {
        "flood": flood,
        "boot": boot,
        "wake": wake,
        "handshakes": handshakes,
        "follow": watchers.follow,
        "idle": watchers.idle,
        "boot_beside": takers.boot_beside,
        "roll": takers.roll,
    }
    try:
        result = asyncio.run(kinds[job.kind](job))
    except (Failed, OSError, RuntimeError, TimeoutError) as error:
        print(f"{job.kind} {job.what}: {error}", file=sys.stderr)
        os._exit(1)
    sys.stdout.buffer.write(msgspec.json.encode(result))
    sys.stdout.flush()
    os._exit(0)  # ten thousand connections need not be closed one by one


if __name__ == "__main__":
    main()
