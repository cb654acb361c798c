"""The measured programs as processes of their own, and what the kernel says they used."""

from __future__ import annotations

import atexit
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import msgspec

from . import words
from .bare import PAIR
from .materializers import NODES

ROOT = Path(__file__).resolve().parent.parent
CFGSYNC = Path(sys.executable).with_name("cfgsync")
START_SECONDS = 20.0
_PROCESS_CLOCK = 2  # CPUCLOCK_SCHED of a whole process, as Linux numbers its clocks
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(msgspec.Struct):
    """A server under measurement. `setup_seconds` from its start to its first words."""

    port: int
    pid: int
    setup_seconds: float = 0.0


def processor_seconds(*pids: int) -> float:
    """User and system time of these processes, all their threads, also those that have ended.

    The sum that `/proc/<pid>/stat` shows in hundredths of a second, here to the nanosecond: what
    `clock_getcpuclockid(3)` asks.
    """
    return sum(time.clock_gettime(~pid << 3 | _PROCESS_CLOCK) for pid in pids)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def most_resident_bytes(pid: int) -> int:
    """The most that it ever was."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def bare(nodes: int = 0, pair: tuple[Path, Path] | None = None) -> Iterator[Process]:
    """The bare aiohttp yardstick, which releases whom it holds when `nodes` have registered; over TLS with a certificate and
    its key."""
    env = {NODES: str(nodes)} | ({} if pair is None else {PAIR: f"{pair[0]}:{pair[1]}"})
    with _announced([sys.executable, "-m", "benchmarks.bare"], env) as process:
        yield process


@contextmanager
def fleet_server(
    store: Path | str,
    nodes: int,
    materializer: str = "Fleet",
    pair: tuple[Path, Path] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Process]:
    """`cfgsync serve` on a SQLite file or a store's URL, with a materializer that is ready at `nodes` registrations; over TLS
    with a certificate and its key; with more `options`."""
    command = [str(CFGSYNC), "serve", f"benchmarks.materializers:{materializer}"]
    url = store if isinstance(store, str) else f"sqlite:{store}"
    options = ["--store", url, "--port", "0", *options]
    if pair is not None:
        options += ["--tls-cert", str(pair[0]), "--tls-key", str(pair[1])]
    with _announced(command + options, {NODES: str(nodes)}) as process:
        yield process


@contextmanager
def document_server(store: Path) -> Iterator[Process]:
    """`cfgsync serve --open-documents` on a SQLite file."""
    command = [str(CFGSYNC), "serve", "--open-documents", "--store", f"sqlite:{store}", "--port", "0"]
    with _announced(command) as process:
        yield process


@contextmanager
def callbacks(port: int) -> Iterator[subprocess.Popen[str]]:
    """A program that binds the document `clock` and prints how long its changes take to it, see `callbacks.py`."""
    command = [sys.executable, "-m", "benchmarks.callbacks", str(port)]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=_environment(None))
    with _ended(started) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


@contextmanager
def etcd(directory: Path) -> Iterator[Process | None]:
    """A private etcd, None when it is not installed."""
    if shutil.which("etcd") is None:
        yield None
        return
    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    command = [
        "etcd", "--data-dir", str(directory / "etcd"), "--name", "bench", "--log-level", "error",
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"bench={peer}",
    ]  # fmt: skip
    with ExitStack() as stack:
        log = stack.enter_context((directory / "etcd.log").open("wb"))
        began = time.perf_counter()
        process = stack.enter_context(_ended(subprocess.Popen(command, stdout=log, stderr=log)))
        while not _healthy(client):
            if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                raise RuntimeError(f"etcd did not start: {(directory / 'etcd.log').read_text()[-500:]}")
            time.sleep(0.1)
        yield Process(int(client.rpartition(":")[2]), process.pid, time.perf_counter() - began)


def spent(command: Sequence[str], env: dict[str, str] | None = None) -> tuple[float, float]:
    """Run a command to its end: processor seconds of it and its children, and seconds on the clock."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_environment(env),
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(
            f"{command[0]} ended with {process.returncode}: {said.decode(errors='replace')[-500:]}"
        )
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began


def ask(port: int, path: str, number: int) -> bytes:
    """One question of node `number`, answered; raises `RuntimeError` for another status than 200."""
    with socket.create_connection(("127.0.0.1", port), START_SECONDS) as connection:
        connection.sendall(words.post(path, words.registration(number)))
        said = connection.recv(65536)
    if said[9:12] != b"200":
        raise RuntimeError(f"{path} was answered {said[:200]!r}")
    return said


@cache
def _bytecode() -> str:
    """A directory for the bytecode of the measured programs, removed at the end of this process."""
    made = tempfile.mkdtemp(prefix="cfgsync-bench-bytecode-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _environment(more: dict[str, str] | None) -> dict[str, str]:
    """Ours. An installed program has its bytecode: one that runs from a checkout may keep it too, outside of that."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": _bytecode(), **(more or {})}


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def raise_file_limit() -> int:
    """Raise the limit of open files, also of the processes started from here, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextmanager
def _announced(command: Sequence[str], env: dict[str, str] | None = None) -> Iterator[Process]:
    """A server that prints `serving … on http://127.0.0.1:PORT…` when it listens."""
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        started = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=_environment(env),
        )
        with _ended(started) as process:
            assert process.stdout is not None
            found = re.search(r"https?://127\.0\.0\.1:(\d+)", process.stdout.readline())
            if found is None:
                log.seek(0)
                raise RuntimeError(
                    f"{command[0]} did not start: {log.read()[-500:].decode(errors='replace')}"
                )
            yield Process(int(found[1]), process.pid, time.perf_counter() - began)


@contextmanager
def _ended(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> Iterator[subprocess.Popen]:  # type: ignore[type-arg]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1) as answer:
            return b'"true"' in answer.read()
    except (urllib.error.URLError, OSError):
        return False
