"""For the author of a materializer: a debugger in the server's terminal, and tracebacks with the author's own frames."""

from __future__ import annotations

import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import BIN, Place, ask, body, eventually
from tests.terminals import Terminal

BREAKS = """
import logging
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts
class Mine:
    def materialize_snapshot(self, nodes):
        found = len(nodes)
        breakpoint()
        logging.getLogger("app").warning("went on with %d", found)
        return MaterializedArtifacts.from_nodes({n: [ArtifactFile("/a", str(found))] for n in nodes.identifiers})
"""
MISSPELT = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts
def Mine():
    return MaterializedArtifacts.from_nodes({"a_1": [ArtifactFile("/a", "x")]})
"""
FAILS = """
from cfgsync_adapter import ArtifactFile, MaterializedArtifacts
class Mine:
    def materialize_snapshot(self, nodes):
        return {n.identifier: self.port(n) for n in nodes}
    def port(self, node):
        return (node.metadata or {})["port"]
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path / "place") as made:
        made.write("breaks.py", BREAKS)
        made.write("breaks_later.py", BREAKS.replace("    def ", "    async def "))
        made.write("fails.py", FAILS)
        made.write("misspelt.py", MISSPELT)
        made.write("broken.py", "def port():\n    return 1 // 0\nport()\n")
        yield made


def only_of_the_application(text: str, file: str) -> bool:
    """Whether there is one traceback, and all its frames are in the file."""
    frames = [line for line in text.splitlines() if line.startswith('  File "')]
    return (
        text.count("Traceback (most recent call last):") == 1
        and bool(frames)
        and all(file in f for f in frames)
    )


@pytest.mark.parametrize("module", ["breaks", "breaks_later"])
def test_a_breakpoint_stops_in_the_servers_terminal_and_the_server_goes_on_answering(
    place: Place, module: str
) -> None:
    words = [BIN / "cfgsync", "serve", f"{module}:Mine", "--debug", "--store", "memory:", "--port", "0"]
    words += ["--run-timeout", "0.5"]
    terminal = Terminal(words, environment=place.environment(), cwd=place.directory, columns=200)
    with terminal as shown:
        shown.until("store memory:")
        before = termios.tcgetattr(shown.fileno())
        port = int(shown.plain.partition(" on http://")[2].partition(",")[0].rpartition(":")[2])
        assert ask(port, "POST", "/register", body("a")).status == 202
        shown.until("(Pdb) ")
        assert ask(port, "GET", "/livez").status == 200
        shown.press("found + 41\r")
        shown.until("\n42\r\n")
        shown.press("c\r")
        shown.until("WARNING app: went on with 1")
        reply = ask(port, "POST", "/node", body("a"), {"Prefer": "wait=10"})
        assert (reply.status, reply.words["files"][0]["content"]) == (200, "1")
        assert ask(port, "POST", "/register", body("b")).status == 202
        shown.until(lambda text: text.count("(Pdb) ") > 2)
        shown.process.terminate()  # while the debugger waits for a line
        assert shown.end() == 0
        assert termios.tcgetattr(shown.fileno()) == before


def test_the_log_has_the_traceback_of_a_failure_once(place: Place) -> None:
    server = place.serve("fails:Mine", "--store", "memory:")
    assert server.ask("POST", "/register", body("a")).status == 202
    eventually(lambda: server.log.count("the materializer failed") > 1)
    assert server.stop() == 0
    assert only_of_the_application(server.log, "fails.py"), server.log
    assert "KeyError: 'port'" in server.log


def test_a_check_shows_the_traceback_and_then_its_two_lines(place: Place) -> None:
    server = place.serve("fails:Mine", "--store", "sqlite:s.db")
    assert server.ask("POST", "/register", body("a")).status == 202
    assert server.stop() == 0
    failed = place.run("check", "fails:Mine", "--store", "sqlite:s.db", "--run-timeout", "1m")
    assert failed.returncode == 1
    assert only_of_the_application(failed.stderr, "fails.py"), failed.stderr
    assert [line.strip() for line in failed.stderr.splitlines()[-2:]] == [
        "failed: 'port' (KeyError in fails.py, line 7)",
        "fix the materializer",
    ]
    misspelt = place.run("check", "misspelt:Mine", "--store", "sqlite:s.db")
    assert (
        "note: the result has files for a_1, which is not registered, and none for a; is a name"
        in misspelt.stderr
    )
    broken = place.run("check", "broken:Mine", "--store", "sqlite:s.db")
    assert broken.returncode == 2
    assert only_of_the_application(broken.stderr, "broken.py"), broken.stderr
    assert "importing broken failed" in broken.stderr.splitlines()[-2]
    for text in ("0", "soon"):
        assert (
            place.run("check", "fails:Mine", "--store", "sqlite:s.db", "--run-timeout", text).returncode == 2
        )


def test_a_module_that_cannot_be_loaded_has_its_traceback_under_debug_only(place: Place) -> None:
    debugged = place.run("serve", "broken:Mine", "--port", "0", "--debug")
    plain = place.run("serve", "broken:Mine", "--port", "0")
    assert (debugged.returncode, plain.returncode) == (2, 2)
    assert only_of_the_application(debugged.stderr, "broken.py"), debugged.stderr
    assert debugged.stderr.splitlines()[-2:] == plain.stderr.splitlines()
