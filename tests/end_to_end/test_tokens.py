"""Join tokens, operators' tokens and the rotation of a node's secret, with the real commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.processes import BIN, PATIENCE, Place, Server, body, ended, eventually

APPLICATION = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts

class Each:
    def materialize_snapshot(self, nodes):
        return MaterializedArtifacts.from_nodes({n.identifier: [ArtifactFile("/id", n.identifier)] for n in nodes})
"""
OPEN = ("--host", "0.0.0.0", "--insecure-no-tls")


@pytest.fixture
def server(place: Place) -> Server:
    place.write("application.py", APPLICATION)
    return place.serve("application:Each", "--store", "sqlite:tokens.db", *OPEN)


def at(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def created(place: Place, server: Server, *flags: str) -> str:
    made = place.run("token", "create", *flags, "--json", "--server", at(server))
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["token"])


def pasted(place: Place, server: Server, line: str, hostname: str) -> subprocess.CompletedProcess[str]:
    """Run a line that `token create` printed, in a shell of its own, as on a machine of that name."""
    there = place.directory / hostname
    there.mkdir(exist_ok=True)
    (there / "bin").mkdir(exist_ok=True)
    called = there / "bin" / "hostname"
    called.write_text(f"#!/bin/sh\necho {hostname}\n")
    called.chmod(0o755)
    line = re.sub(
        r"--server http://\S+", f"--server {at(server)}", line
    )  # this machine's name may not resolve
    path = f"{called.parent}:{BIN}:{os.environ['PATH']}"
    environment = place.environment({"PATH": path, "XDG_STATE_HOME": str(there / "state")})
    return subprocess.run(
        ["sh", "-c", line], cwd=there, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )


def test_the_line_that_create_prints_boots_three_nodes_and_a_fourth_is_refused(
    place: Place, server: Server
) -> None:
    first = place.run("token", "bootstrap", "--name", "ana", "--server", at(server))
    assert first.returncode == 0
    made = place.run("token", "create", "--for", "web-*", "--uses", "3", "--server", at(server))
    (line,) = made.stdout.splitlines()
    assert f":{server.port} --token-file" in line
    for name in ("web-1", "web-2", "web-3"):
        done = pasted(place, server, line, name)
        assert done.returncode == 0, done.stderr
        files = place.directory / name
        assert (files / "files" / "current" / "id").read_text() == name
        (token,) = files.glob("*.token")
        assert token.stat().st_mode & 0o777 == 0o600
    fourth = pasted(place, server, line, "web-4")
    assert fourth.returncode == 5
    what, do = fourth.stderr.splitlines()
    assert "has no uses left; it had 3" in what
    assert "cfgsync token create --for 'web-*'" in do
    assert not (place.directory / "web-4" / "files").exists()
    again = pasted(place, server, line, "web-2")
    assert again.returncode == 0, "a node that has joined spends nothing"
    table = place.run("token", "list", "--server", at(server)).stdout.splitlines()
    assert sorted(row.split()[1:5] for row in table[1:]) == [
        ["join", row_name(line), "web-*", "0/3"],
        ["operator", "ana", "-", "-"],
    ]
    shown = pasted(place, server, first.stdout.strip(), "desk")
    assert (shown.returncode, "3 registered" in shown.stdout) == (0, True)
    evicted = ("node", "evict", "web-1", "--server", at(server), "--token-file", "desk/ana.token")
    assert place.run(*evicted).stdout == "web-1 has left; its name is free\n"
    assert place.run("token", "revoke", "ana", "--server", at(server)).returncode == 0
    refused = place.run(*evicted)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (5, 2)
    eventually(lambda: "by operator ana from 127.0.0.1: answered 200" in server.log)
    tokens = re.findall(r"cfgsync_\w+_([\w-]{43})", line + first.stdout)
    stored = b"".join(path.read_bytes() for path in place.directory.glob("tokens.db*"))
    secrets = [path.read_text().strip() for path in place.directory.glob("*/state/cfgsync/*/secret")]
    assert len(tokens) == 2
    assert len(secrets) == 4
    status = place.run("status", "--json", "--server", at(server)).stdout
    for secret in (*tokens, *secrets):
        assert secret not in server.log + status
        assert secret.encode() not in stored


def row_name(line: str) -> str:
    return re.findall(r"cfgsync_([0-9a-f]{12})_", line)[0]


def test_the_line_of_a_socket_has_the_port_of_its_server(place: Place, server: Server) -> None:
    for command in (("bootstrap",), ("create", "--for", "x")):
        made = place.run("token", *command, "--admin-socket", server.admin_socket)
        assert f":{server.port} --token-file" in made.stdout, made.stderr
        assert f":{server.port} is a guess" in made.stderr


def test_status_without_a_token_uses_the_admin_socket_and_elsewhere_says_what_is_needed(
    place: Place, server: Server
) -> None:
    assert place.run("status", "--server", at(server)).returncode == 0
    elsewhere = {
        "XDG_RUNTIME_DIR": str(place.directory / "no"),
        "XDG_STATE_HOME": str(place.directory / "no"),
    }
    refused = place.run("status", "--server", at(server), environment=elsewhere | {"HOME": "/nonexistent"})
    if refused.returncode == 5:  # root's place in /run is not this server's
        assert "--token-file" in refused.stderr.splitlines()[1]
    place.write("reader.token", created(place, server, "--role", "reader", "--name", "bea"))
    given = {**elsewhere, "CFGSYNC_TOKEN_FILE": str(place.directory / "reader.token")}
    assert place.run("status", "--server", at(server), environment=given).returncode == 0
    assert place.run("node", "evict", "x", "--server", at(server), environment=given).returncode == 5


@pytest.mark.parametrize("text", [None, "two words in it"])
def test_a_token_file_that_has_no_token_is_two_lines_that_do_not_show_it(
    place: Place, text: str | None
) -> None:
    if text is not None:
        place.write("a.token", text)
    for command in (("status",), ("fetch", "--id", "a", "--out", "out")):
        refused = place.run(*command, "--token-file", "a.token", "--server", "http://127.0.0.1:9")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 2)
        assert "two words" not in refused.stderr


def test_a_watching_node_rotates_its_secret_and_the_old_one_is_worth_nothing_then(
    place: Place, server: Server
) -> None:
    place.write("a.token", created(place, server, "--for", "a"))
    secret = place.directory / "state" / "a" / "secret"
    token = ("--token-file", str(place.directory / "a.token"))
    assert ended(place.fetch(at(server), "a", *token))[0] == 0
    old = secret.read_text().strip()
    watching, _ = place.start(*place.fetching(at(server), "a", *token, "--rotate-secret", "--watch"))
    eventually(lambda: secret.read_text().strip() != old)
    eventually(lambda: server.ask("POST", "/node", body("a"), bearer(old)).status == 403)
    new = secret.read_text().strip()
    assert server.ask("POST", "/node", body("a"), bearer(new)).status == 200
    assert not secret.with_name("secret.next").exists()
    assert watching.poll() is None
    watching.terminate()
    watching.wait(PATIENCE)
    assert ended(place.fetch(at(server), "a"))[0] == 0, "without a token: its name is bound"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_node_that_is_killed_while_it_rotates_can_always_talk(place: Place, server: Server) -> None:
    """Killed ever later, from before the rotation to its end."""
    place.write("a.token", created(place, server, "--for", "a"))
    token = ("--token-file", str(place.directory / "a.token"))
    assert ended(place.fetch(at(server), "a", *token))[0] == 0
    killer = Path(__file__).with_name("rotation_to_be_killed.py")
    kills, seen, refused = 0, set(), 0
    for step in range(1, 99, 3):
        state = place.directory / "state" / "a"
        arguments = place.fetching(at(server), "a", "--rotate-secret")
        done = subprocess.run(
            [str(BIN / "python"), str(killer), str(step), *arguments],
            env=place.environment(),
            cwd=place.directory,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        kills += done.returncode == -9
        seen.add((done.returncode, (state / "secret.next").exists()))
        refused += (
            server.ask("POST", "/register", body("a"), bearer((state / "secret").read_text().strip())).status
            != 202
        )
        if done.returncode == 0:
            break
    print(f"{kills} kills inside a rotation, {refused} nodes locked out")
    assert refused == 0
    assert kills >= 5
    assert {(-9, True), (-9, False), (0, False)} <= seen
