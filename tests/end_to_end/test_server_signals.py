"""The signals of a server: SIGHUP reads its file again, or ends it with its terminal; every phase hears SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import BIN, PATIENCE, Place, Server, body, eventually
from tests.terminals import Terminal

BUNDLE = "nodes: [{{identifier: a, files: [{{path: /a, content: {text}}}]}}]\n"
HANGS = "import time\nopen('loading', 'w').close()\ntime.sleep(600)\nclass Mine: ...\n"
READY = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts
class Mine:
    def materialize_snapshot(self, nodes):
        return MaterializedArtifacts.from_nodes({n.identifier: [ArtifactFile("/a", "1")] for n in nodes})
"""


def served(server: Server, hold: int = 0, known: str = "") -> str:
    headers = {"Prefer": f"wait={hold}"} if hold else {}
    headers |= {"If-None-Match": known} if known else {}
    reply = server.ask("POST", "/node", body("a"), headers)
    assert reply.status == 200, reply
    content: str = reply.words["files"][0]["content"]
    return content


@pytest.mark.parametrize("kind", ["bundle", "static", "registration"])
def test_sighup_reads_the_contents_again_and_what_is_wrong_with_them_changes_nothing(
    place: Place, kind: str
) -> None:
    place.write("b.yaml", BUNDLE.format(text="one"))
    place.write("s.yaml", f"port: 0\nstore: 'memory:'\nsource: {{kind: {kind}, artifacts_path: b.yaml}}\n")
    server = place.serve(*(["--bundle", "b.yaml"] if kind == "bundle" else ["--config", "s.yaml"]))
    assert server.ask("POST", "/register", body("a")).status == 202
    assert served(server) == "one"

    def hang_up(said: str) -> None:
        before = server.log.count(said)
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.log.count(said) > before)

    place.write("b.yaml", BUNDLE.format(text="two"))
    hang_up("is read again (1 node)")
    eventually(lambda: served(server) == "two")
    place.write("b.yaml", "nodes: [")
    hang_up(
        "SIGHUP: the old contents stay: b.yaml:" if kind == "bundle" else "SIGHUP: the old contents stay: "
    )
    place.write("b.yaml", "nodes: []")
    hang_up("b.yaml, and 1 node would get nothing any more; if that is meant, restart the server")
    assert served(server) == "two"
    place.write("b.yaml", BUNDLE.format(text="two"))
    hang_up("SIGHUP: the contents are as before")
    if kind != "bundle":
        other = {"static": "registration", "registration": "static"}[kind]
        for line, said in (
            (
                "port: 0\nhost: '::1'\nstore: 'sqlite:x.db'",
                "restart needed for a changed host and store",
            ),
            ("port: 0\nstore: 'memory:'", "another kind of source needs a restart"),
        ):
            kind_now = other if "kind" in said else kind
            place.write("s.yaml", f"{line}\nsource: {{kind: {kind_now}, artifacts_path: b.yaml}}\n")
            hang_up(said)
        place.write("s.yaml", "port: 0\nhost: 0.0.0.0\nsource: {kind: static, artifacts_path: b.yaml}\n")
        hang_up("SIGHUP: the old contents stay: host 0.0.0.0 is open to other machines")
    assert served(server) == "two"
    assert server.stop() == 0


def test_a_bundle_without_nodes_is_served_from_the_start_and_may_get_nodes(place: Place) -> None:
    place.write("b.yaml", "nodes: []")
    server = place.serve("--bundle", "b.yaml")
    assert server.ask("POST", "/node", body("a")).status == 404
    eventually(lambda: " WARNING there is no node in b.yaml: every node gets 404\n" in server.log)
    place.write("b.yaml", "unknown: 1\n" + BUNDLE.format(text="one"))
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "is read again (1 node)" in server.log)
    assert " WARNING b.yaml:1:1: unknown: unknown key ignored" in server.log, "without the logger's name"
    assert served(server) == "one"


def test_a_restart_serves_a_server_file_that_has_changed_and_keeps_a_generation_that_has_not(
    place: Place,
) -> None:
    place.write(
        "s.yaml", "port: 0\nstore: 'sqlite:s.db'\nsource: {kind: registration, artifacts_path: b.yaml}\n"
    )
    generations = []
    for text in ("one", "two", "two"):
        place.write("b.yaml", BUNDLE.format(text=text))
        server = place.serve("--config", "s.yaml")
        assert server.ask("POST", "/register", body("a")).status == 202
        eventually(lambda server=server, text=text: served(server) == text)
        generations.append(server.status()["generation"].rpartition(".")[2])
        assert server.stop() == 0
    assert generations == ["1", "2", "2"]


def test_a_held_request_gets_new_contents_at_once(place: Place) -> None:
    place.write("b.yaml", BUNDLE.format(text="one"))
    server = place.serve("--bundle", "b.yaml")
    etag = server.ask("POST", "/node", body("a")).headers["etag"]
    node = place.fetch(server.url, "a", "--watch", out="out")
    eventually((place.directory / "out/current/a").exists)
    place.write("b.yaml", BUNDLE.format(text="two"))
    server.process.send_signal(signal.SIGHUP)
    began = time.monotonic()
    eventually(lambda: (place.directory / "out/current/a").read_text() == "two")
    assert time.monotonic() - began < 5
    assert served(server, hold=20, known=etag) == "two"
    node.terminate()
    node.wait(PATIENCE)


def test_with_a_materializer_sighup_says_what_to_do_instead(place: Place) -> None:
    place.write("app.py", READY)
    server = place.serve("app:Mine", "--store", "memory:")
    server.process.send_signal(signal.SIGHUP)
    eventually(
        lambda: (
            "takes effect with a restart, and `cfgsync generation rebuild` runs this one again" in server.log
        )
    )
    assert server.ask("GET", "/readyz").status == 200


def test_a_terminal_that_hangs_up_stops_the_server_as_sigterm_does(place: Place) -> None:
    place.write("app.py", READY)
    words = [BIN / "cfgsync", "serve", "app:Mine", "--store", "sqlite:s.db", "--port", "0"]
    terminal = Terminal(words, environment=place.environment(), cwd=place.directory, columns=200)
    with terminal as shown:
        shown.until("store sqlite:s.db")
        shown.process.send_signal(signal.SIGHUP)  # by hand, and the terminal is there
        shown.until("`cfgsync generation rebuild` runs this one again")
        shown.hang_up()
        assert shown.process.wait(PATIENCE) == 0
    assert place.run("store", "check", "--store", "sqlite:s.db").returncode == 0


def test_under_nohup_a_server_outlives_its_terminal_and_no_sighup_ends_it(place: Place) -> None:
    place.write("app.py", READY)
    said = place.directory / "said"
    shell = (
        f"nohup {BIN}/cfgsync serve app:Mine --store memory: --port 0 >{said} 2>&1 & echo started $!; wait"
    )
    terminal = Terminal(["/bin/sh", "-c", shell], environment=place.environment(), cwd=place.directory)
    with terminal as shown:
        shown.until("started ")
        server = int(shown.plain.partition("started ")[2].split()[0])
        eventually(lambda: said.exists() and "serving" in said.read_text())
        shown.hang_up()
        os.kill(server, signal.SIGHUP)
        time.sleep(1)
        os.kill(server, signal.SIGTERM)
    eventually(lambda: "SIGTERM: shutting down" in said.read_text())
    assert (
        said.read_text().count("SIGHUP")
        == said.read_text().count("SIGHUP is ignored: started under nohup")
        == 1
    )


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGTERM, (0, -signal.SIGTERM)), (signal.SIGINT, (130,))], ids=["TERM", "INT"]
)
@pytest.mark.parametrize("more", [(), ("--debug",)], ids=["child", "debug"])
def test_a_signal_ends_a_server_whose_module_is_still_loading(
    place: Place, sent: signal.Signals, code: tuple[int, ...], more: tuple[str, ...]
) -> None:
    place.write("app.py", HANGS)
    process, log = place.start("serve", "app:Mine", "--port", "0", *more)
    eventually((place.directory / "loading").exists)
    began = time.monotonic()
    process.send_signal(sent)
    assert process.wait(PATIENCE) in code
    assert time.monotonic() - began < 3
    assert "Traceback" not in log.read_text()


IN_A_NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode != 0,
    reason="NOT TESTED: a process namespace needs root and `unshare`",
)
@pytest.mark.parametrize(
    "command", [["cfgsync", "serve", "--config", "s.yaml"], ["cfgsync-server", "s.yaml"]]
)
def test_as_pid_1_it_hears_sighup_and_sigterm(place: Place, command: list[str]) -> None:
    place.write("b.yaml", BUNDLE.format(text="one"))
    place.write("s.yaml", "port: 0\nsource: {kind: static, artifacts_path: b.yaml}\n")
    said = place.directory / "said"
    with said.open("w") as output:
        outer = subprocess.Popen(
            [*IN_A_NAMESPACE, BIN / command[0], *command[1:]],
            cwd=place.directory,
            env=place.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        eventually(lambda: "serving" in said.read_text())
        (inner,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        os.kill(int(inner), signal.SIGHUP)
        eventually(lambda: "SIGHUP: the contents are as before" in said.read_text())
        os.kill(int(inner), signal.SIGTERM)
        assert outer.wait(PATIENCE) == 0
    finally:
        outer.kill()
        outer.wait()
