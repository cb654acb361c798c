"""Real processes: a bundle that was signed elsewhere, a server with a key of its own, and what a materializer can reach."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.processes import BIN, Place, ended, eventually, listening

BUNDLE = """\
nodes:
- {identifier: node-1, files: [{path: /config.yaml, content: "id: node-1"}]}
- {identifier: node-2, files: [{path: /config.yaml, content: "id: node-2"}]}
"""
APPLICATION = """
import os
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts

class Mine:
    def materialize_snapshot(self, nodes):
        return MaterializedArtifacts.from_nodes({n.identifier: [ArtifactFile("/id", n.identifier)] for n in nodes})
"""
LOOKS = """
import ctypes, os
from cfgsync_adapter import NotReady

def read(name):
    path = f"/proc/{os.getppid()}/{name}"
    try:
        os.listdir(path) if name == "root" else open(path, "rb").read(1)
    except OSError as error:
        return error.strerror
    return "read"

class Looks:
    def materialize_snapshot(self, nodes):
        return NotReady(" ".join(f"{name}: {read(name)}," for name in ("environ", "mem", "fd/2", "maps", "root")))

class Asks:
    def materialize_snapshot(self, nodes):
        return NotReady(f"dumpable {ctypes.CDLL(None).prctl(3)}")
"""


@pytest.fixture
def keys(place: Place) -> Place:
    for name in ("signing.key", "other.key"):
        assert place.run("bundle", "keygen", name).returncode == 0
    return place


def test_a_bundle_signed_elsewhere_reaches_its_nodes_and_one_changed_byte_does_not(keys: Place) -> None:
    place = keys
    bundle = place.write("b.yaml", BUNDLE)
    assert place.run("bundle", "sign", "b.yaml", "--key", "signing.key").returncode == 0
    (place.directory / "signing.key").rename(place.directory / "kept.key")  # the server has none
    server = place.serve("--bundle", "b.yaml")
    trusted = ("--verify-key", "signing.key.pub")
    code, said = ended(place.fetch(server.url, "node-1", *trusted))
    assert (code, said["status"]) == (0, "ready")
    code, said = ended(place.fetch(server.url, "node-2", "--verify-key", "other.key.pub"))
    assert (code, said["reason"], "signed by key" in said["message"]) == (6, "integrity", True)
    assert not (place.directory / "out/node-2").exists()
    code, said = ended(place.fetch(server.url, "node-2", "--verify-key", "other.key.pub", *trusted))
    assert code == 0, "two keys at once, while a fleet changes its key"

    watching = place.fetch(server.url, "node-1", *trusted, "--watch", out=str(place.directory / "stays"))
    watched = place.directory / "stays/current/config.yaml"
    eventually(watched.exists)

    bundle.write_text(bundle.read_text().replace("id: node-1", "id: node-7"))
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "changed since it was signed" in server.log and "is read again" in server.log)
    written = (place.current("node-1") / "config.yaml").stat()
    code, said = ended(place.fetch(server.url, "node-1", *trusted))
    assert (code, "these have sha256-" in said["message"]) == (6, True)
    assert (place.current("node-1") / "config.yaml").stat() == written
    eventually(lambda: "these have sha256-" in server.status("node-1")["reason"])
    assert watched.read_text() == "id: node-1"
    assert watching.poll() is None
    assert place.run("bundle", "sign", "b.yaml", "--key", "kept.key").returncode == 0
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: server.log.count("is read again") == 2)
    assert ended(place.fetch(server.url, "node-1", *trusted))[0] == 0

    server.stop()
    degraded = ("--startup-mode", "degraded", "--wait", "0.2")
    assert ended(place.fetch(server.url, "node-1", *trusted, *degraded))[1]["status"] == "degraded"
    code, said = ended(place.fetch(server.url, "node-1", "--verify-key", "other.key.pub", *degraded))
    assert (code, said["status"]) == (6, "failed")


def test_a_server_with_a_key_signs_each_generation_and_refuses_a_key_that_others_may_read(
    keys: Place,
) -> None:
    place = keys
    place.write("app.py", APPLICATION)
    key = place.directory / "signing.key"
    server = place.serve("app:Mine", "--store", "memory:", "--signing-key", "signing.key")
    environment = {"CFGSYNC_VERIFY_KEY": "other.key.pub\nsigning.key.pub"}
    fetched = place.run(*place.fetching(server.url, "node-1"), environment=environment)
    assert fetched.returncode == 0, fetched.stderr
    assert ended(place.fetch(server.url, "node-1", "--verify-key", "other.key.pub"))[0] == 6
    unsigned = place.run(*place.fetching(server.url, "node-1", "--verify-key", "signing.key"))
    assert (unsigned.returncode, "holds a private key" in unsigned.stderr) == (2, True)
    key.chmod(0o640)
    refused = place.run("serve", "app:Mine", "--port", "0", "--signing-key", "signing.key")
    assert refused.returncode == 2
    assert "signing.key may be read by other users\nrun: chmod 600 signing.key\n" in refused.stderr


def test_a_materializer_reads_nothing_of_its_server_in_proc_though_it_is_the_same_user(place: Place) -> None:
    place.write("app.py", LOOKS)
    words = [str(BIN / "cfgsync"), "serve", "app:Looks", "--store", "memory:", "--port", "0"]
    if os.geteuid() == 0:  # root may trace every process, unless it has given up its capabilities
        if (setpriv := shutil.which("setpriv")) is None:
            pytest.skip("NOT TESTED: root without setpriv")
        words = [setpriv, "--bounding-set", "-all", *words]
    server = listening(*place.start(*words[1:], command=words[0]))
    place.fetch(server.url, "node-1", "--wait", "30")
    eventually(lambda: "environ" in server.status()["reason"])
    denied = "Permission denied,"
    assert (
        server.status()["reason"]
        == f"environ: {denied} mem: {denied} fd/2: {denied} maps: {denied} root: {denied}"
    )
    assert Path(f"/proc/{server.process.pid}/status").read_text(), "what everybody may read stays"


def test_a_debugger_may_look_into_a_server_that_was_started_for_one(place: Place) -> None:
    place.write("app.py", LOOKS)
    server = place.serve("app:Asks", "--store", "memory:", "--debug")
    place.fetch(server.url, "node-1", "--wait", "30")
    eventually(lambda: server.status()["reason"] == "dumpable 1")
