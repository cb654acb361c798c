"""Five members of etcd under `fetch --watch -- etcd …`: a sixth joins, and a flag that etcd does not know arrives. A writer
notices neither."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.processes import Place, body, eventually

HERE = Path(__file__).parent
ETCD = shutil.which("etcd")

pytestmark = pytest.mark.skipif(ETCD is None, reason="NOT TESTED: there is no etcd")


def ask(port: int, path: str, words: dict[str, object] | None = None, within: float = 1.0) -> int:
    """The status of one request to a member; 0 without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within)
    try:
        if words is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(words))
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


class Writer(threading.Thread):
    """Puts a key every 20 ms through the first member that takes it, and looks which members do not listen."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__(daemon=True)
        self.ports = ports
        self.written = 0
        self.longest_gap = 0.0  # s
        self.most_down = 0
        self.has_ended = threading.Event()

    def run(self) -> None:
        last = time.monotonic()
        while not self.has_ended.wait(0.02):
            self.most_down = max(self.most_down, sum(not _listens(port) for port in self.ports))
            key = base64.b64encode(b"key").decode()
            value = base64.b64encode(str(self.written).encode()).decode()
            if any(ask(port, "/v3/kv/put", {"key": key, "value": value}) == 200 for port in self.ports):
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - last)
                last = now
                self.written += 1
            self.ports.append(self.ports.pop(0))


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        pass  # busy
    return True


def free_ports(number: int) -> list[int]:
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [one.getsockname()[1] for one in with_ports]
    finally:
        for one in with_ports:
            one.close()


@pytest.mark.timed  # six etcds with an election at each restart
def test_a_sixth_etcd_joins_and_a_bad_flag_is_taken_back_while_a_writer_writes(place: Place) -> None:
    server = place.serve("etcd_cluster:EtcdCluster", "--store", "memory:", cwd=HERE)
    ports = free_ports(12)
    names = [f"n{number}" for number in range(1, 7)]
    clients, peers = dict(zip(names, ports[:6], strict=True)), dict(zip(names, ports[6:], strict=True))

    def start(name: str, **more: str) -> None:
        metadata = json.dumps({"client": clients[name], "peer": peers[name], **more})
        health = f"curl -fs http://127.0.0.1:{clients[name]}/health"
        place.start(
            *place.fetching(server.url, name, "--metadata", metadata, "--watch", "--healthy-after", "0"),
            *("--health", health, "--", "sh", "-c", f"exec etcd $(cat out/{name}/current/flags)"),
        )

    def say(*flags: str) -> None:
        assert server.ask("POST", "/register", body("boss", {"size": 5, "flags": flags})).status == 202

    def through(nodes: int) -> bool:
        rollout = server.status().get("rollout", {})
        return (rollout.get("state"), rollout.get("through")) == ("idle", nodes)

    def operate(*words: str) -> tuple[int, str]:
        done = place.run("rollout", *words, "--server", server.url)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    say("--logger=zap")
    for name in names[:5]:
        start(name)
    eventually(lambda: all(ask(clients[name], "/health") == 200 for name in names[:5]))
    eventually(lambda: through(5))
    writer = Writer([clients[name] for name in names[:5]])
    writer.start()
    eventually(lambda: writer.written > 10)

    try:
        # a sixth joins, so each of the five restarts with another --initial-cluster
        added = {"peerURLs": [f"http://127.0.0.1:{peers['n6']}"]}
        # etcd refuses it until its members have been connected for five seconds
        eventually(lambda: ask(clients["n1"], "/v3/cluster/member/add", added, within=30.0) == 200)
        start("n6", state="existing")
        eventually(lambda: through(6), within=180.0)
        eventually(lambda: ask(clients["n6"], "/health") == 200)
        assert all("n6=" in (place.current(name) / "flags").read_text() for name in names)
        joined = writer.longest_gap, writer.most_down

        # a flag that etcd does not know
        say("--logger=zap", "--no-such-flag=1")
        eventually(lambda: server.status()["rollout"]["state"] == "halted")
        (failed,) = [one["identifier"] for one in server.status()["rollout"]["failed"]]
        code, said = operate("status")
        assert (code, "flag provided but not defined: -no-such-flag" in said) == (1, True), said
        eventually(lambda: ask(clients[failed], "/health") == 200)
        assert all("no-such" not in (place.current(name) / "flags").read_text() for name in names)
        code, said = operate("revert")
        assert code == 0, said
        eventually(lambda: through(6), within=180.0)

        written = writer.written
        eventually(lambda: writer.written > written + 10)
    finally:
        print(server.status().get("rollout"))
        writer.has_ended.set()
        writer.join()
    print(f"{writer.written} keys, the longest gap {writer.longest_gap:.2f} s, {joined} with the sixth")
    assert writer.most_down == 1, "two members were away at once"
    assert writer.longest_gap < 10, "longer than elections take"
