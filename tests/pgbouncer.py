"""A private PgBouncer in front of a private PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.postgres import Postgres, as_user, own


@contextmanager
def pgbouncer(postgres: Postgres, mode: str, ignored: str = "") -> Iterator[int]:
    """The port of one in `mode` (session, transaction) that passes over the startup parameters `ignored`. Skips loudly where it
    is not installed."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1":
            pytest.fail("PgBouncer is not installed; run scripts/engines")
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer (make test does it when it may)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    directory = Path(tempfile.mkdtemp(prefix="cfgsync-pgbouncer-"))
    (directory / "ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={postgres.port} user=cfgsync dbname=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {mode}\nignore_startup_parameters = {ignored}\n"
    )
    for path in (directory, directory / "ini"):
        own(path)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(as_user([program, directory / "ini"]), stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until, (directory / "log").read_text()
                time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)
