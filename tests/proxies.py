"""The proxies of docs/howto/proxies.md with that page's settings, in front of a server of a test."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, free_ports
from tests.processes import ask, eventually

PAGE = Path(__file__).resolve().parents[1] / "docs/howto/proxies.md"
WHERE = os.environ.get("PATH", "") + ":/usr/sbin"
STARTED = {
    "nginx": ("nginx.conf", 4401, ["-e", "stderr", "-c", "nginx.conf", "-g", "daemon off;", "-p", "."]),
    "haproxy": ("haproxy.cfg", 4402, ["-f", "haproxy.cfg"]),
    "caddy": ("Caddyfile", 4403, ["run", "--config", "Caddyfile"]),
}
OPTIONAL = {"caddy"}


def found_proxies() -> list[str]:
    """The proxies of this machine. Those that are lacking are a warning, and where engines are required a failure; without any
    the test is skipped."""
    lacking = [name for name in STARTED if shutil.which(name, path=WHERE) is None]
    if lacking:
        line = f"NOT TESTED: the settings of {', '.join(lacking)}, not found"
        if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1" and set(lacking) - OPTIONAL:
            pytest.fail(line)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn(line, stacklevel=1)
        if len(lacking) == len(STARTED):
            pytest.skip(line)
    return [name for name in STARTED if name not in lacking]


@contextmanager
def in_front_of(server_port: int, directory: Path, only: str = "") -> Iterator[dict[str, int]]:
    """The port of each proxy, or of `only` one, which runs in `directory`."""
    files = {block.title: block.text for block in blocks(PAGE) if block.title}
    found = {}
    wanted = [name for name in found_proxies() if only in ("", name)]
    if not wanted:
        pytest.skip(f"NOT TESTED: {only} not found")
    with ExitStack() as stack:
        for name in wanted:
            file, shown, words = STARTED[name]
            (found[name],) = free_ports()
            text = files[file].replace("4400", str(server_port)).replace(str(shown), str(found[name]))
            (directory / file).write_text(text)
            process = subprocess.Popen(
                [str(shutil.which(name, path=WHERE)), *words],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stack.enter_context((directory / f"{name}.err").open("w")),
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        yield found


def wait_until_up(ports: dict[str, int]) -> None:
    """Return when each proxy answers for the server."""
    for port in ports.values():
        eventually(lambda port=port: _is_up(port))


def _is_up(port: int) -> bool:
    try:
        return ask(port, "GET", "/livez").status == 200
    except OSError:
        return False
