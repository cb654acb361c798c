"""A page's code blocks, run as its reader would run them, in order, in one directory.

- `sh` is run by `bash -euo pipefail`, with `.venv/bin` first in PATH and a home of its own; nothing that it starts
  outlives it. `text` after it says lines that it must have printed; `…` stands for anything.
- `python` or `yaml` with `title=NAME` is a file that is written first. A `python` block without is the test's to run.

The default port 4400 may be taken on this machine: commands are given another one by `CFGSYNC_PORT` and
`CFGSYNC_SERVER`, so a page writes its commands without a port.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PATIENCE = 60.0
_FENCE = re.compile(r"^```(\w*)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One fenced block; `line` is where its text begins."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(m[1], m[2] or "", m[3], text.count("\n", 0, m.start()) + 2) for m in _FENCE.finditer(text)]


def free_ports(count: int = 1) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in opened]


def run_shell(text: str, directory: Path, port: int) -> str:
    """Run a block in `directory`; what it printed. It must end with 0."""
    home = directory.parent / f"{directory.name}-home"
    home.mkdir(exist_ok=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("CFGSYNC_", "CFG_"))
    }
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "CFGSYNC_PORT": str(port),
        "CFGSYNC_SERVER": f"http://127.0.0.1:{port}",
    }
    log = home / "printed"
    with log.open("w", encoding="utf-8") as out:
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


def run_page(page: Path, directory: Path, only: list[Block] | None = None) -> Iterator[str]:
    """Run the files and shell blocks of a page (or `only` these) in order; what each shell block printed, compared with
    the `text` after it."""
    port = free_ports()[0]
    printed = ""
    for block in blocks(page) if only is None else only:
        where = f"{page.name}:{block.line}"
        if block.title:
            (directory / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            printed = run_shell(block.text, directory, port)
            yield printed
        elif block.language == "text":
            unseen = [line for line in block.text.splitlines() if line and not _said(line, printed, port)]
            assert unseen == [], f"{where}: not printed: {unseen}\nprinted:\n{printed}"
        else:
            raise AssertionError(f"{where}: nobody runs a block of {block.language or 'no language'}")


def _said(line: str, printed: str, port: int) -> bool:
    pattern = ".*".join(re.escape(part) for part in line.replace(":4400", f":{port}").split("…"))
    return any(re.fullmatch(pattern, one.rstrip()) for one in printed.splitlines())
