"""The settings of docs/howto/proxies.md, each with the real proxy: a request that is held for its whole time, hints that
arrive at once, and an operator's routes that stay shut. The page's own blocks, which boot two nodes, run in tests/docs."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, free_ports
from tests.processes import Place, ask, body, eventually

PAGE = Path(__file__).resolve().parents[2] / "docs/howto/proxies.md"
WHERE = os.environ.get("PATH", "") + ":/usr/sbin"
STARTED = {
    "nginx": ("nginx.conf", 4401, ["-e", "stderr", "-c", "nginx.conf", "-g", "daemon off;", "-p", "."]),
    "haproxy": ("haproxy.cfg", 4402, ["-f", "haproxy.cfg"]),
    "caddy": ("Caddyfile", 4403, ["run", "--config", "Caddyfile"]),
}
OPTIONAL = {"caddy"}
HELD = 30
APPLICATION = """
from cfgsync_adapter import NotReady

class Never:
    def materialize_snapshot(self, nodes):
        return NotReady("waiting for node-2")
"""


@pytest.fixture
def ports(place: Place) -> Iterator[tuple[int, dict[str, int]]]:
    """A server's port, and that of each proxy in front of it."""
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
    files = {block.title: block.text for block in blocks(PAGE) if block.title}
    place.write("application.py", APPLICATION)
    server = place.serve("application:Never", "--store", "memory:", port=free_ports()[0])
    found = {}
    with ExitStack() as stack:
        for name, (file, shown, words) in STARTED.items():
            if name in lacking:
                continue
            (found[name],) = free_ports()
            text = files[file].replace("4400", str(server.port)).replace(str(shown), str(found[name]))
            place.write(file, text)
            process = subprocess.Popen(
                [str(shutil.which(name, path=WHERE)), *words],
                cwd=place.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stack.enter_context((place.directory / f"{name}.err").open("w")),
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        for port in found.values():
            eventually(lambda port=port: _is_up(port))
        yield server.port, found


def _is_up(port: int) -> bool:
    try:
        return ask(port, "GET", "/livez").status == 200
    except OSError:
        return False


def test_a_proxy_with_the_page_s_settings_holds_requests_passes_hints_on_and_makes_nobody_an_operator(
    ports: tuple[int, dict[str, int]],
) -> None:
    _, proxies = ports
    with ThreadPoolExecutor(len(proxies)) as pool:
        for name, problems in zip(proxies, pool.map(_problems, proxies.values(), proxies), strict=True):
            assert problems == [], name


def _problems(port: int, node: str) -> list[str]:
    found = []
    assert ask(port, "POST", "/register", body(node)).status == 202
    began = time.monotonic()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=15)) as watching:
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
            status = ask(port, method, path, words, {"Host": host}).status
            if status != 403:
                found.append(f"{method} {path} with Host {host}: {status}")
    began = time.monotonic()
    held = ask(port, "POST", "/node", body(node), {"Prefer": f"wait={HELD}"})
    took = time.monotonic() - began
    if held.status != 425 or held.words["reason"] != "waiting for node-2" or took < HELD - 3:
        found.append(f"held for {took:.1f} s, then {held.status} {held.body[:200]!r}")
    return found
