"""A page's code blocks, run as its reader would run them, in order, in one directory.

- `sh` is run by `bash -euo pipefail`, with `.venv/bin` in PATH and a home of its own; nothing that it starts outlives it.
  `cfgsync` is forked off a process that has loaded it (tests/shims.py), but on the pages that a reader sees first. `text` after it says lines that it must have printed; `…` stands for anything.
- A block with `title=NAME` is a file that is written first. A `python` block without is the test's to run.
- `needs=PROGRAM,PROGRAM` after the language: without them the block and the `text` after it are left out, loudly.
- `console` is shown only: it stands below a sentence that says so (`test_pages.py`).

A reader pastes a block at once, so nothing here waits for a server that a block has put into the background: a block says
itself what waits.

The default port 4400 may be taken on this machine: commands are given another one by `CFGSYNC_SERVE_PORT` and
`CFGSYNC_SERVER`, and wherever a page says 4400, or for other servers 4401 to 4409, it becomes one that is free.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.shims import Shims

PATIENCE = 60.0
_VENV = Path(sys.executable).parents[1]
PATH = f"{_VENV}/bin:{os.environ['PATH']}:/usr/sbin:{_VENV}/engines"  # where Debian has proxies, and what scripts/engines fetches
_FENCE = re.compile(r"^```(\w*)(?: title=(\S+))?(?: needs=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One fenced block; `line` is where its text begins."""

    language: str
    title: str
    text: str
    line: int
    needs: tuple[str, ...] = ()
    """Programs without which it cannot be run."""

    @property
    def lacks(self) -> list[str]:
        return [name for name in self.needs if shutil.which(name, path=PATH) is None]


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            m[1],
            m[2] or "",
            m[4],
            text.count("\n", 0, m.start()) + 2,
            tuple(filter(None, (m[3] or "").split(","))),
        )
        for m in _FENCE.finditer(text)
    ]


_GIVEN: set[int] = set()


def free_ports(count: int = 1) -> list[int]:
    """Ports that nobody listens on now. They are below those that the kernel gives to connections: one of these may be
    taken by anybody's request before the server that it is meant for is up."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, first if first > 12_000 else 65_000)
        if port in _GIVEN:
            continue
        _GIVEN.add(port)
        with contextlib.suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            found.append(port)
    return found


def environment_of(home: Path, port: int) -> dict[str, str]:
    """A reader's environment, with a home of its own and `port` instead of 4400. Without PYTHONUNBUFFERED, which writes a line
    and its end one after the other, and the server's log may come between."""
    theirs = ("CFGSYNC_", "CFG_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    return (
        kept
        | {
            "PATH": PATH,
            "HOME": str(home),
            "PYTEST_ADDOPTS": "-p no:schemathesis -p no:anyio",  # plugins of this .venv, which a reader does not have
            "XDG_STATE_HOME": str(home / "state"),
            "CFGSYNC_SERVE_PORT": str(port),
            "CFGSYNC_SERVER": f"http://127.0.0.1:{port}",
        }
    )


def run_shell(text: str, directory: Path, port: int, *, forks: bool = True) -> str:
    """Run a block in `directory`; what it printed. It must end with 0. `forks`: its `cfgsync` is forked (tests/shims.py)."""
    home = directory.parent / f"{directory.name}-home"
    home.mkdir(exist_ok=True)
    environment = environment_of(home, port)
    if forks:
        environment["PATH"] = f"{Shims.of_this_process().directory}:{PATH}"
    log = home / "printed"
    # the path of a socket is at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="cfgsync-") as runtime, log.open("w", encoding="utf-8") as out:
        environment["XDG_RUNTIME_DIR"] = runtime
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # its own session: only what this block has started
            shell.wait()
    printed = log.read_text(encoding="utf-8")
    assert code == 0, f"ended with {code}:\n{text}\nprinted:\n{printed}"
    return printed


def run_page(
    page: Path, directory: Path, only: list[Block] | None = None, *, forks: bool = True
) -> Iterator[str]:
    """Run the files and shell blocks of a page (or `only` these) in order; what each shell block printed, compared with
    the `text` after it."""
    ports = free_ports(10)
    port = ports[0]

    def here(text: str) -> str:
        return re.sub(r"\b440(\d)\b", lambda match: str(ports[int(match[1])]), text)

    printed = ""
    left_out = False
    for block in blocks(page) if only is None else only:
        where = f"{page.name}:{block.line}"
        if block.title:
            file = directory / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(here(block.text), encoding="utf-8")
            if block.text.startswith("#!"):
                file.chmod(0o755)
        elif block.language == "sh":
            left_out = bool(block.lacks)
            if left_out:
                continue
            printed = run_shell(here(block.text), directory, port, forks=forks)
            yield printed
        elif block.language == "console":
            left_out = True
        elif block.language == "text":
            if left_out:
                continue
            unseen = [line for line in here(block.text).splitlines() if line and not is_said(line, printed)]
            assert unseen == [], f"{where}: not printed: {unseen}\nprinted:\n{printed}"
        else:
            raise AssertionError(f"{where}: nobody runs a block of {block.language or 'no language'}")


def is_said(line: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in line.split("…"))
    return any(re.fullmatch(pattern, one.rstrip()) for one in printed.splitlines())
