"""The settings of docs/howto/proxies.md, each with the real proxy: a request that is held for its whole time, hints that
arrive at once, and an operator's routes that stay shut. The page's own blocks, which boot two nodes, run in tests/docs."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.blocks import blocks, free_ports
from tests.processes import Place, Reply, Server, ask, body, connected, eventually

PAGE = Path(__file__).resolve().parents[2] / "docs/howto/proxies.md"
WHERE = os.environ.get("PATH", "") + ":/usr/sbin"
NGINX = ["-e", "stderr", "-g", "daemon off;", "-p", ".", "-c"]
CADDY = ["run", "--adapter", "caddyfile", "--config"]
STARTED = {
    "nginx": ("nginx.conf", 4401, NGINX),
    "haproxy": ("haproxy.cfg", 4402, ["-f"]),
    "caddy": ("Caddyfile", 4403, CADDY),
    "nginx with TLS": ("nginx-tls.conf", 4404, NGINX),
    "caddy with TLS": ("Caddyfile-tls", 4405, CADDY),
}
"""The file on the page, the port in it, and the arguments that it follows."""
OPTIONAL = {"caddy"}
HELD = 30
APPLICATION = """
from cfgsync_adapter import NotReady

class Never:
    def materialize_snapshot(self, nodes):
        return NotReady("waiting for node-2")
"""


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


@pytest.fixture
def proxies(place: Place) -> Iterator[tuple[Server, dict[str, Proxy]]]:
    """A server, and the proxies in front of it."""
    lacking = [name for name in STARTED if shutil.which(name.split()[0], path=WHERE) is None]
    if lacking:
        line = f"NOT TESTED: the settings of {', '.join(lacking)}, not found"
        if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1" and not OPTIONAL.issuperset(
            name.split()[0] for name in lacking
        ):
            pytest.fail(line)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn(line, stacklevel=1)
    if len(lacking) == len(STARTED):
        pytest.skip(line)
    files = {block.title: block.text for block in blocks(PAGE) if block.title}
    place.write("application.py", APPLICATION)
    made = place.run("tls", "init", "--host", "localhost")
    assert made.returncode == 0, made.stderr
    trust = ssl.create_default_context(cafile=str(place.directory / "ca.pem"))
    served = ("application:Never", "--store", "memory:", "--trusted-proxy", "127.0.0.1")
    server = place.serve(*served, port=free_ports()[0])
    found: dict[str, Proxy] = {}
    with ExitStack() as stack:
        for name, (file, shown, words) in STARTED.items():
            if name in lacking:
                continue
            (port,) = free_ports()
            found[name] = Proxy(port, trust if "TLS" in name else None)
            own = place.directory / name
            own.mkdir()
            for part in ("server.pem", "server.key"):
                shutil.copy(place.directory / part, own)
            text = files[file].replace("4400", str(server.port)).replace(str(shown), str(port))
            (own / file).write_text(text)
            process = subprocess.Popen(
                [str(shutil.which(name.split()[0], path=WHERE)), *words, file],
                cwd=own,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stack.enter_context((place.directory / f"{name}.err").open("w")),
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        for proxy in found.values():
            eventually(proxy.is_up)
        yield server, found


def test_a_proxy_with_the_page_s_settings_holds_requests_passes_hints_on_and_makes_nobody_an_operator(
    proxies: tuple[Server, dict[str, Proxy]],
) -> None:
    server, running = proxies
    names = [name.replace(" ", "-") for name in running]
    with ThreadPoolExecutor(len(running)) as pool:
        for name, problems in zip(running, pool.map(_problems, running.values(), names), strict=True):
            assert problems == [], name
    if (
        nginx := running.get("nginx with TLS")
    ) is not None:  # the log has the client's address, which gives no right
        assert nginx.ask("POST", "/admin/evict", body("a"), {"X-Forwarded-For": "203.0.113.9"}).status == 403
        eventually(lambda: "by anyone from 203.0.113.9: refused, 403" in server.log)


def _problems(proxy: Proxy, node: str) -> list[str]:
    found = []
    assert proxy.ask("POST", "/register", body(node)).status == 202
    began = time.monotonic()
    with closing(connected(proxy.port, 15, proxy.tls)) as watching:
        watching.request("GET", "/watch")
        stream = watching.getresponse()
        line = stream.readline()
        while line and b"hint" not in line:
            line = stream.readline()
        if b"hint" not in line or time.monotonic() - began > 10:
            found.append(f"the first hint of /watch: {line!r} after {time.monotonic() - began:.1f} s")
        stream.close()
    for host in ("cfg.example.com", "127.0.0.1", "localhost"):
        for method, path, words in (
            ("GET", "/admin/snapshot", None),
            ("POST", "/admin/evict", body(node)),
            ("POST", "/node/replace", b'{"identifier":"nginx","files":[]}'),
        ):
            reply = proxy.ask(method, path, words, {"Host": host})
            is_caddy_s_own = (
                reply.status == 200
                and not reply.body
                and (node, host == "localhost") == ("caddy-with-TLS", False)
            )
            if reply.status != 403 and not is_caddy_s_own:  # its site has a name: docs/howto/proxies.md
                found.append(f"{method} {path} with Host {host}: {reply.status}")
    began = time.monotonic()
    held = proxy.ask("POST", "/node", body(node), {"Prefer": f"wait={HELD}"})
    took = time.monotonic() - began
    if held.status != 425 or held.words["reason"] != "waiting for node-2" or took < HELD - 3:
        found.append(f"held for {took:.1f} s, then {held.status} {held.body[:200]!r}")
    return found
