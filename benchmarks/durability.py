"""`python -m benchmarks.durability [REGISTRATIONS]`: each 202 follows an fdatasync of the log that covers its commit.

strace shows every system call of a real `cfgsync serve` on SQLite, in order. A registration carries a mark of its own;
the mark is in the frames that its commit appends to the write-ahead log, and the last of them is a commit frame. A 202 is
too early when no fdatasync of the log began after that frame was written and ended well before the 202 was sent.

Exit 1 when one was too early, 2 when nothing can be said: no strace, or a trace that does not hold every 202.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from .processes import CFGSYNC, ROOT

CONNECTIONS = 16
REGISTRATIONS = 1_000
PATIENCE_SECONDS = 60.0

_READS = ("recvfrom", "read")
"""asyncio reads a socket with the first, uvloop with the second."""
_WRITES = ("sendto", "sendmsg", "write", "writev")
_CALLS = ",".join(("fdatasync", "fsync", "pwrite64", *_READS, *_WRITES))
_MARK = re.compile(rb"mark-\d{6}")
_BEGUN = re.compile(r"(\d+) +(\w+)\(\d+<([^>]*)>(.*)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FRAME_HEADER_BYTES = 24
_UNFINISHED = "<unfinished ...>"


class CannotTrace(Exception):
    """There is no strace here, or it may not trace, or it did not see everything."""


class Account(msgspec.Struct):
    """What a trace shows. `early` are the marks of the 202s that came before their fdatasync."""

    commits: int = 0
    fdatasyncs: int = 0
    answers: int = 0
    early: list[str] = []


class _Call(msgspec.Struct):
    name: str
    file: str
    data: bytes
    covers: frozenset[bytes] = frozenset()


class _Reader:
    """Follows the calls of a trace: what was written to the log, what of it was synced, what was answered."""

    def __init__(self) -> None:
        self.account = Account()
        self._seen: set[bytes] = set()
        self._uncommitted: set[bytes] = set()
        self._unsynced: set[bytes] = set()
        self._durable: set[bytes] = set()
        self._asked: dict[str, bytes] = {}
        self._commits = False

    def begun(self, call: _Call) -> None:
        if call.name in ("fdatasync", "fsync"):
            call.covers = frozenset(self._unsynced)
        elif call.name in _WRITES and call.data.startswith(b"HTTP/1.1 202"):
            self.account.answers += 1
            mark = self._asked.get(call.file, b"none")
            if mark not in self._durable:
                self.account.early.append(mark.decode())

    def ended(self, call: _Call) -> None:
        if call.name in _READS:
            for mark in _MARK.findall(call.data):
                self._asked[call.file] = mark
        elif call.file.endswith("-wal"):
            if call.name != "pwrite64":
                self.account.fdatasyncs += 1
                self._durable |= call.covers
                self._unsynced -= call.covers
            elif len(call.data) == _FRAME_HEADER_BYTES:  # a commit frame says how large the database is now
                self._commits = call.data[4:8] != b"\0\0\0\0"
            else:
                self._page(call.data)

    def _page(self, page: bytes) -> None:
        fresh = set(_MARK.findall(page)) - self._seen  # a page also repeats what earlier commits put there
        self._seen |= fresh
        self._uncommitted |= fresh
        if self._commits:
            self._commits = False
            self.account.commits += 1
            self._unsynced |= self._uncommitted
            self._uncommitted.clear()


def read(trace: Path) -> Account:
    """What the lines of `strace -f -y -xx` show."""
    reader = _Reader()
    under_way: dict[str, _Call] = {}
    with trace.open() as lines:
        for line in lines:
            if match := _BEGUN.match(line):
                thread, name, file, rest = match.groups()
                call = _Call(name, _text(file).decode(), _first(rest))
                reader.begun(call)
                if rest.rstrip().endswith(_UNFINISHED):
                    under_way[thread] = call
                elif not _failed(rest):
                    reader.ended(call)
            elif (match := _RESUMED.match(line)) and (call := under_way.pop(match[1], None)) is not None:
                call.data = call.data or _first(match[2])
                if not _failed(match[2]):
                    reader.ended(call)
    return reader.account


def _first(rest: str) -> bytes:
    match = _TEXT.search(rest)
    return _text(match[1]) if match else b""


def _text(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", "")) if "\\x" in escaped else escaped.encode()


def _failed(rest: str) -> bool:
    return " = -1 " in rest or " = ?" in rest


def measure(registrations: int, scratch: Path) -> Account:
    """Trace `registrations` of as many nodes, each with a secret, over a few connections. Raises `CannotTrace`."""
    trace = scratch / "trace"
    with _traced(scratch, trace) as port:
        asyncio.run(_register(port, registrations))
    account = read(trace)
    if account.answers != registrations or not account.commits:
        raise CannotTrace(f"{registrations} were answered 202, the trace shows {account}")
    return account


@contextlib.contextmanager
def _traced(scratch: Path, trace: Path) -> Iterator[int]:
    strace = shutil.which("strace")
    if strace is None:
        raise CannotTrace("strace is not installed (apt-get install strace)")
    (scratch / "never.py").write_text(
        "from cfgsync_adapter import NotReady\n\n\n"
        "class Never:\n"
        "    def materialize_snapshot(self, registrations):\n"
        "        return NotReady('never')\n"
    )
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    with (scratch / "errors").open("w") as errors:
        process = subprocess.Popen(
            [
                *(
                    strace,
                    "-f",
                    "-y",
                    "-xx",
                    "-s",
                    "65536",
                    "--seccomp-bpf",
                    "-e",
                    f"trace={_CALLS}",
                    "-o",
                    trace,
                ),
                *(
                    CFGSYNC,
                    "serve",
                    "never:Never",
                    "--store",
                    f"sqlite:{scratch / 'store.db'}",
                    "--port",
                    "0",
                ),
            ],
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE_SECONDS)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline() if ready else "")
        if found is None:
            raise CannotTrace(f"the traced server did not start: {(scratch / 'errors').read_text()[-500:]}")
        yield int(found[1])
    finally:
        # strace ends with what it traces; ended itself, it would only let go
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(_server(process.pid), signal.SIGTERM)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(_server(process.pid), signal.SIGKILL)
            process.kill()
            process.wait()
        process.stdout.close()


def _server(strace: int) -> int:
    return int(Path(f"/proc/{strace}/task/{strace}/children").read_text().split()[0])


async def _register(port: int, registrations: int) -> None:
    numbers = iter(range(registrations))

    async def one_after_another() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            mark = f"mark-{number:06}"
            body = msgspec.json.encode(
                {"identifier": f"node-{number}", "ip": "10.0.0.1", "metadata": {"mark": mark}}
            )
            head = f"POST /register HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {'s' * 40}-{number}\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
            if not answer.startswith(b"HTTP/1.1 202 "):
                raise CannotTrace(f"a registration was answered {answer[:200]!r}")
        writer.close()

    await asyncio.gather(*(one_after_another() for _ in range(CONNECTIONS)))


def main(words: list[str]) -> int:
    registrations = int(words[0]) if words else REGISTRATIONS
    began = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="cfgsync-durability-") as scratch:
            account = measure(registrations, Path(scratch))
    except CannotTrace as reason:
        print(f"nothing can be said: {reason}", file=sys.stderr)
        return 2
    print("| | |\n| --- | --- |")
    print(f"| registrations answered 202, over {CONNECTIONS} connections | {account.answers} |")
    print(f"| transactions in the write-ahead log | {account.commits} |")
    print(f"| fdatasyncs of it | {account.fdatasyncs} |")
    print(f"| 202s before their fdatasync (must be 0) | {len(account.early)} |")
    print(f"\n{time.perf_counter() - began:.0f} s, under strace")
    return 1 if account.early else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
