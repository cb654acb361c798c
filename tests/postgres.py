"""A private PostgreSQL for tests: on a free port of loopback, in a temporary directory, ended with the process."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

USER = "postgres"
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where syncing costs nothing."""


def installed() -> Path | None:
    """The programs of the newest installed version, None without one; Debian has them outside of PATH."""
    some = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda one: int(one.parts[-3]))
    found = some[-1] if some else shutil.which("pg_ctl")
    return None if found is None else Path(found).parent


class Postgres:
    """One server, in memory (None: on a disk). It syncs, as a store's must, but keeps little memory."""

    def __init__(
        self,
        programs: Path,
        memory: str | None = MEMORY,
        host: str = "127.0.0.1",
        enter: Sequence[str] = (),
    ) -> None:
        """`enter` is the beginning of a command in the network namespace that has `host`."""
        self._programs = programs
        self._host, self._enter = host, enter
        self.directory = Path(tempfile.mkdtemp(prefix="cfgsync-postgres-", dir=memory))
        own(self.directory)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        subprocess.run(["cp", "-a", _template(programs), self.data], check=True)
        self._stores = 0
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {host}/24 trust\n")
        self.start()

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def url(self, schema: str = "") -> str:
        """A store of its own each time, or the one that is named."""
        self._stores += 1
        return f"postgresql://cfgsync@{self._host}:{self.port}/postgres?schema={schema or f's{self._stores}_{os.getpid()}'}"

    def start(self, **settings: str) -> None:
        options = {
            "listen_addresses": self._host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": "16MB",
            "max_connections": "40",
            **settings,
        }
        words = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        self._run("pg_ctl", "start", "-w", "-t", "60", "-s", "-l", str(self.directory / "log"), "-o", words)
        self.is_running = True

    def stop(self, mode: str = "immediate") -> None:
        """`immediate` is a crash."""
        self._run("pg_ctl", "stop", "-m", mode, "-w", "-s")
        self.is_running = False

    def promote(self) -> None:
        """Begin another timeline, as after a failover."""
        (self.data / "standby.signal").touch()
        own(self.data / "standby.signal")
        self.start()
        self._run("pg_ctl", "promote", "-w")

    def processes(self) -> list[int]:
        """Its first process, and that one's children."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text()
        return [first, *map(int, children.split())]

    def remove(self) -> None:
        if self.is_running:
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _run(self, program: str, *words: str) -> None:
        command = [*self._enter, *as_user([self._programs / program, "-D", self.data, *words])]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.directory)


def own(path: Path) -> None:
    """Give it to the user of PostgreSQL, which refuses root."""
    if os.getuid() == 0:
        shutil.chown(path, USER, USER)


def as_user(command: list[str | Path]) -> list[str | Path]:
    if os.getuid() != 0:
        return command
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]


@functools.cache
def _template(programs: Path) -> Path:
    """A new database, made once in this process: a copy takes a tenth of the time."""
    directory = Path(tempfile.mkdtemp(prefix="cfgsync-postgres-", dir=MEMORY))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    own(directory)
    words = ["-A", "trust", "-U", "cfgsync", "--no-sync", "-E", "UTF8", "--locale=C"]
    command = as_user([programs / "initdb", "-D", directory / "data", *words])
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=directory)
    return directory / "data"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for tests that leave it as it is."""
    server = own_postgres()
    yield server
    server.remove()


def own_postgres(host: str = "127.0.0.1", enter: Sequence[str] = ()) -> Postgres:
    """One that the caller stops, restarts and removes. Skips loudly where PostgreSQL is not installed."""
    programs = installed()
    if programs is None:
        if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1":
            pytest.fail("PostgreSQL is not installed; run scripts/engines")
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql (make test does it when it may)")
    return Postgres(programs, host=host, enter=enter)
