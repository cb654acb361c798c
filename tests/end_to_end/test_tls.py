"""TLS on the real commands: a certificate that `tls init` made, nodes that were given its hash, and a renewal that no waiting
node notices."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.processes import Place, ended, eventually

APPLICATION = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts, Quorum

class Names:
    def materialize_snapshot(self, nodes):
        names = " ".join(nodes.identifiers)
        return MaterializedArtifacts.from_nodes({name: [ArtifactFile("/names", names)] for name in nodes.identifiers})

def pair():
    return Quorum(Names(), at_least=2)
"""
CERTIFICATE = ("--tls-cert", "server.pem", "--tls-key", "server.key")


def made(place: Place, *hosts: str) -> str:
    """The `--ca-hash` of the certificate that `tls init` made."""
    done = place.run("tls", "init", *(f"--host={host}" for host in hosts))
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def test_nodes_boot_and_follow_over_tls_through_a_renewal_that_a_waiting_node_does_not_notice(
    place: Place,
) -> None:
    place.write("app.py", APPLICATION)
    ca_hash = made(place, "localhost")
    server = place.serve("app:pair", *CERTIFICATE)
    url = server.url.replace("127.0.0.1", "localhost")
    assert url.startswith("https://")
    pinned = {"CFGSYNC_CA_HASH": ca_hash}

    watching, log = place.start(*place.fetching(url, "node-1", "--watch"), environment=pinned)
    eventually(lambda: "not ready: 1 of 2 nodes" in server.log)
    assert place.run("tls", "init", "--host", "localhost", "--host", "127.0.0.1").returncode == 0
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the certificate is read again" in server.log)
    assert ended(place.fetch(url, "node-2", "--ca-hash", ca_hash))[0] == 0
    eventually(lambda: (place.current("node-1") / "names").is_file())
    assert watching.poll() is None
    # a hold of less than a second ends without a line; no line is about a lost server
    assert set(log.read_text().splitlines()) <= {"waiting: 1 of 2 nodes"}

    # the renewed certificate has the address, too
    shown = place.run("status", "--server", server.url, environment=pinned)
    assert "2 registered" in shown.stdout, shown.stderr
    refused = place.run("status", "--server", server.url, "--ca-hash", "sha256:" + "0" * 64)
    assert (refused.returncode, "unknown CA" in refused.stderr) == (7, True)
    plain = place.run("status", "--server", server.url.replace("https", "http"))
    assert (plain.returncode, plain.stderr.splitlines()[1]) == (7, "give --server with https://")
    assert f"hash    {ca_hash}\n" in place.run("tls", "show", url).stdout
    assert place.run("node", "list", "--server", url).returncode == 0  # by the admin socket
    assert server.stop() == 0


def test_off_loopback_a_server_with_tls_needs_no_word_about_tls(place: Place) -> None:
    place.write("app.py", APPLICATION)
    made(place, "localhost")
    bare = place.run("serve", "app:pair", "--host", "0.0.0.0", "--port", "0")
    assert bare.returncode == 2
    assert "make a certificate (cfgsync tls init) and give --tls-cert and --tls-key" in bare.stderr
    half = place.run("serve", "app:pair", "--tls-cert", "server.pem")
    assert (half.returncode, half.stderr.splitlines()[0]) == (2, "--tls-cert: --tls-key is not given")
    wrong = place.run("serve", "app:pair", "--tls-cert", "server.pem", "--tls-key", "ca.key")
    assert wrong.returncode == 2
    assert "the key in ca.key does not belong to the certificate in server.pem" in wrong.stderr
    server = place.serve("app:pair", *CERTIFICATE, "--host", "0.0.0.0", "--insecure-no-auth")
    assert server.url.startswith("https://0.0.0.0:")
    assert server.stop() == 0
    assert re.search(r"INSECURE \(--insecure-no-auth\)", server.log)
    assert "--insecure-no-tls" not in server.log


def test_a_server_file_names_its_certificate_beside_it(place: Place) -> None:
    made(place, "localhost")
    place.write(
        "server.yaml",
        "port: 0\nsource: {kind: static, artifacts_path: artifacts.yaml}\ntls_cert: server.pem\ntls_key: server.key\n"
        "trusted_proxy: [10.0.0.0/8, 127.0.0.1]\n",
    )
    place.write("artifacts.yaml", "nodes: {node-1: {files: [{path: /a, content: a}]}}\n")
    server = place.serve("--config", str(place.directory / "server.yaml"), cwd=Path("/"))
    done = place.fetch(server.url.replace("127.0.0.1", "localhost"), "node-1", "--ca-file", "ca.pem")
    assert ended(done)[0] == 0
    wrong = (place.directory / "server.yaml").read_text().replace("10.0.0.0/8", "10.0.0.1/8")
    place.write("wrong.yaml", wrong)
    refused = place.run("serve", "--config", "wrong.yaml")
    assert refused.returncode == 2
    assert "trusted_proxy: not an address or a network" in refused.stderr
