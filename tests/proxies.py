"""The proxies of docs/howto/proxies.md with that page's settings, in front of a server of a test."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.blocks import PATH, blocks, free_ports
from tests.processes import Reply, ask, eventually

PAGE = Path(__file__).resolve().parents[1] / "docs/howto/proxies.md"
NGINX = ["-e", "stderr", "-g", "daemon off;", "-p", ".", "-c"]
CADDY = ["run", "--adapter", "caddyfile", "--config"]
PLAIN = {
    "nginx": ("nginx.conf", 4401, NGINX),
    "haproxy": ("haproxy.cfg", 4402, ["-f"]),
    "caddy": ("Caddyfile", 4403, CADDY),
}
"""The file on the page, the port in it, and the arguments that it follows."""
WITH_TLS = {
    "nginx with TLS": ("nginx-tls.conf", 4404, NGINX),
    "caddy with TLS": ("Caddyfile-tls", 4405, CADDY),
}
"""They show `server.pem` of the test's directory, with `server.key`."""
OPTIONAL = {"caddy"}


class Proxy(NamedTuple):
    """A running proxy; `tls` verifies the certificate that it shows."""

    port: int
    tls: ssl.SSLContext | None

    def ask(
        self, method: str, path: str, words: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        return ask(self.port, method, path, words, headers, tls=self.tls)

    def is_up(self) -> bool:
        try:
            return self.ask("GET", "/livez").status == 200
        except OSError:
            return False


def found_proxies(wanted: list[str]) -> list[str]:
    """Those of `wanted` that this machine has. Others are a warning, and where engines are required a failure; without any
    the test is skipped."""
    lacking = [name for name in wanted if shutil.which(name.split()[0], path=PATH) is None]
    if lacking:
        line = f"NOT TESTED: the settings of {', '.join(lacking)}, not found"
        required = os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1"
        if required and not OPTIONAL.issuperset(name.split()[0] for name in lacking):
            pytest.fail(line)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn(line, stacklevel=1)
        if len(lacking) == len(wanted):
            pytest.skip(line)
    return [name for name in wanted if name not in lacking]


@contextmanager
def in_front_of(
    server_port: int, directory: Path, *only: str, trust: ssl.SSLContext | None = None
) -> Iterator[dict[str, Proxy]]:
    """All proxies by name, or `only` some, each in a directory of its own below `directory`; those with TLS only with `trust`."""
    known = PLAIN if trust is None else PLAIN | WITH_TLS
    files = {block.title: block.text for block in blocks(PAGE) if block.title}
    found: dict[str, Proxy] = {}
    with ExitStack() as stack:
        for name in found_proxies(list(only or known)):
            file, shown, words = known[name]
            (port,) = free_ports()
            found[name] = Proxy(port, trust if name in WITH_TLS else None)
            own = directory / name
            own.mkdir()
            if name in WITH_TLS:
                for part in ("server.pem", "server.key"):
                    shutil.copy(directory / part, own)
            text = files[file].replace("4400", str(server_port)).replace(str(shown), str(port))
            (own / file).write_text(text)
            process = subprocess.Popen(
                [str(shutil.which(name.split()[0], path=PATH)), *words, file],
                cwd=own,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stack.enter_context((directory / f"{name}.err").open("w")),
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        yield found


def wait_until_up(proxies: dict[str, Proxy]) -> None:
    """Return when each proxy answers for the server."""
    for proxy in proxies.values():
        eventually(proxy.is_up)
