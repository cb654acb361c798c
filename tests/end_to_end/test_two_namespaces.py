"""The documented way on a real network: a server in one network namespace, three nodes in another one that were given one
pasted line each, three healthy etcd members at the end, and nothing to read for a listener between the two."""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.blocks import free_ports
from tests.namespaces import entering, require, run, two_namespaces
from tests.processes import BIN, PATIENCE, Place, Server, eventually, listening

SERVER, NODES, PORT = "10.77.0.1", "10.77.0.2", 4400
MEMBERS = ("etcd-a", "etcd-b", "etcd-c")
CANARY = "CANARY-of-the-metadata"
MARKER = b"what a listener can read"
APPLICATION = Path(__file__).resolve().parents[2] / "examples/etcd_cluster/etcd_cluster.py"
LISTENER = """
import signal, socket, struct, sys
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
heard.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
heard.bind(("wire", 0))
heard.settimeout(0.1)
with open(sys.argv[1], "wb") as file:
    print("listening", flush=True)
    while True:
        try:
            frame = heard.recv(1 << 17)
        except TimeoutError:
            if ended:
                break
            continue
        file.write(struct.pack("!I", len(frame)) + frame)
print(struct.unpack("II", heard.getsockopt(263, 6, 8))[1])  # SOL_PACKET, PACKET_STATISTICS: frames that were missed
"""


@pytest.fixture
def namespaces() -> Iterator[tuple[list[str], list[str]]]:
    """The beginning of a command in the server's and in the nodes' namespace. Both end with the test."""
    require("three etcd members over TLS between two network namespaces", "etcd", "etcdctl")
    with two_namespaces(SERVER, NODES) as (there, here):
        yield entering(there), entering(here)


def test_three_pasted_lines_make_a_healthy_etcd_cluster_and_a_listener_reads_nothing(
    place: Place, namespaces: tuple[list[str], list[str]]
) -> None:
    there, here = namespaces
    began = time.monotonic()
    place.write("etcd_cluster.py", APPLICATION.read_text())
    assert place.run("tls", "init", "--host", SERVER, "--dir", "tls").returncode == 0
    with ExitStack() as stack:
        heard = place.directory / "heard"
        listener = subprocess.Popen(
            [*here, str(BIN / "python"), "-c", LISTENER, str(heard)], stdout=subprocess.PIPE, text=True
        )
        stack.callback(listener.wait)
        stack.callback(listener.kill)
        assert listener.stdout is not None
        assert listener.stdout.readline() == "listening\n"
        server = _server(place, there)

        def operator(*words: str) -> str:
            asked = (*there, str(BIN / "cfgsync"), *words, "--server", f"https://{SERVER}:{PORT}")
            return run(*asked, env=place.environment(), cwd=place.directory)  # type: ignore[arg-type]

        line = operator("token", "create", "--for", "etcd-*", "--uses", "3").strip()
        reading = operator("token", "create", "--role", "reader", "--name", "ana").strip()
        ports = free_ports(6)
        members = []
        for name, peer, client in zip(MEMBERS, ports[:3], ports[3:], strict=True):
            own = f'{{"peer_port":{peer},"client_port":{client},"password":"{CANARY}"}}'
            entry = f"{line} --metadata '{own}' --state state -- etcd --config-file files/current/etcd.yaml"
            members.append(_pasted(place, here, name, f"exec sh -c {_quoted(entry)}"))
            stack.callback(members[-1].wait)
            stack.callback(members[-1].kill)
        endpoint = f"{NODES}:{ports[3]}"
        eventually(lambda: _is_healthy(here, endpoint))
        status = _pasted(place, here, "desk", reading)
        assert "3 registered" in status.communicate(timeout=PATIENCE)[0]
        assert [member.poll() for member in members] == [None] * 3
        plain = f"import socket; socket.create_connection(('{SERVER}', {PORT})).sendall({MARKER!r})"
        run(*here, str(BIN / "python"), "-c", plain)  # the proof that the listener hears
        assert server.stop() == 0
        listener.send_signal(signal.SIGTERM)
        missed = int(listener.communicate(timeout=PATIENCE)[0])
        files = [(place.directory / name / "files/current/etcd.yaml").read_text() for name in MEMBERS]

    streams = _streams(heard.read_bytes())
    tokens = re.findall(r"cfgsync_[0-9a-f]{12}_([\w-]{43})", line + reading)
    secrets = [(place.directory / name / "state/secret").read_text().strip() for name in MEMBERS]
    clusters = {word for text in files for word in re.findall(r'"(http\S+|[0-9a-f]{16})"', text)}
    assert (len(tokens), len(set(secrets)), len(clusters) > 6) == (2, 3, True)
    hidden = [*tokens, *secrets, *clusters, *MEMBERS, CANARY, "Bearer", "initial-cluster"]
    readable = [text for text in hidden if any(text.encode() in stream for stream in streams)]
    shown = [stream for stream in streams if MARKER in stream]
    encrypted = [stream for stream in streams if stream[:2] == b"\x16\x03"]
    print(
        f"{time.monotonic() - began:.1f} s, {len(streams)} streams of {sum(map(len, streams))} bytes, {missed} frames missed:"
        f" {len(readable)} of {len(hidden)} texts could be read"
    )
    assert missed == 0
    assert len(shown) == 1, "the listener read what was sent plainly"
    assert len(encrypted) >= 14, "both directions of seven calls at least"
    assert len(streams) - len(encrypted) <= 2, "the plain one, and what the server answered to it"
    assert not any(b"HTTP/1.1" in stream for stream in encrypted)
    assert readable == []


def _server(place: Place, there: list[str]) -> Server:
    words = (*there[1:], str(BIN / "cfgsync"), "serve", "etcd_cluster:three_members", "--late", "freeze")
    tls = ("--tls-cert", "tls/server.pem", "--tls-key", "tls/server.key")
    more = ("--host", SERVER, "--port", str(PORT), *tls, "--store", "sqlite:server.db")
    return listening(*place.start(*words, *more, command=str(shutil.which(there[0]))))


def _pasted(place: Place, here: list[str], hostname: str, line: str) -> subprocess.Popen[str]:
    """Paste a line in a shell on a machine of this name, in a directory of its own."""
    directory = place.directory / hostname
    directory.mkdir()
    path = {"PATH": f"{BIN}:{os.environ['PATH']}", "XDG_STATE_HOME": str(directory)}
    with (directory / "log").open("w") as log:
        return subprocess.Popen(
            [*here, "unshare", "--uts", "sh", "-c", f"hostname {hostname} && {line}"],
            cwd=directory,
            env=place.environment(path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if hostname == "desk" else log,
            stderr=log,
            text=True,
        )


def _quoted(line: str) -> str:
    return "'" + line.replace("'", "'\\''") + "'"


def _is_healthy(here: list[str], endpoint: str) -> bool:
    asked = ["etcdctl", "--endpoints", endpoint, "--dial-timeout=1s", "--command-timeout=3s"]
    done = subprocess.run(
        [*here, *asked, "endpoint", "health", "--cluster"],
        env=os.environ | {"ETCDCTL_API": "3"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode == 0 and (done.stdout + done.stderr).count("is healthy") == len(MEMBERS)


def _streams(heard: bytes) -> list[bytes]:
    """What each side of each TCP connection of the server has sent, from the frames of a listener."""
    parts: defaultdict[bytes, dict[int, bytes]] = defaultdict(dict)
    at = 0
    while at < len(heard):
        (length,) = struct.unpack_from("!I", heard, at)
        frame, at = heard[at + 4 : at + 4 + length], at + 4 + length
        if frame[12:14] != b"\x08\x00" or frame[23] != 6:
            continue
        packet = frame[14 : 14 + struct.unpack_from("!H", frame, 16)[0]]
        segment = packet[(packet[0] & 15) * 4 :]
        source, target, sequence = struct.unpack_from("!HHI", segment)
        data = segment[(segment[12] >> 4) * 4 :]
        if PORT in (source, target) and data:
            parts[packet[12:20] + segment[:4]][sequence] = data
    return [b"".join(data for _, data in sorted(stream.items())) for stream in parts.values()]
