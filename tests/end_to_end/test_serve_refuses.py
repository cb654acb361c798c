"""What `cfgsync serve` cannot use is refused in two lines, with 2 for what it was given and 1 for the machine."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes import Place

HERE = Path(__file__).parent

GOOD = """
class Good:
    def materialize_snapshot(self, registrations):
        raise ValueError
"""
APP = (
    GOOD
    + """
class NoVerb: pass
class NeedsArguments(Good):
    def __init__(self, cluster): pass
class Raises(Good):
    def __init__(self): raise ValueError('no cluster here')
class TakesNothing:
    def materialize_snapshot(self): pass
"""
)
BUNDLE = "nodes:\n- identifier: node-1\n  files: [{path: /a, content: b}]\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path / "place") as made:
        made.write("app.py", APP)
        made.write("syntax.py", "class Good:\n    def materialize_snapshot(self, r)\n        pass\n")
        made.write("imports.py", "import yaml\nimport no_such_library\n")
        made.write("bundle.yaml", BUNDLE)
        yield made


def refused(place: Place, code: int, *arguments: str) -> tuple[str, str]:
    """The two lines with which `cfgsync serve ARGUMENTS` refuses."""
    done = place.run("serve", *arguments)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (code, ""), done
    assert len(lines) == 2, done.stderr
    assert all(line == line.strip() and line for line in lines)
    assert "Traceback" not in done.stderr
    return lines[0], lines[1]


@pytest.mark.parametrize(
    ("target", "what", "do"),
    [
        ("nosuch:Good", "no module named nosuch", "Python searched "),
        ("app:good", "app:good: there is no good in app", "did you mean Good"),
        ("app:NoVerb", "the class has no method materialize_snapshot", "give it `def materialize_snapshot"),
        ("app:NeedsArguments", "cannot be called without arguments", "give them defaults"),
        ("app:Raises", "app.py:9: ValueError: no cluster here|no cluster here", "app.py:"),
        ("app:TakesNothing", "does not take one argument", "write `def materialize_snapshot"),
        ("syntax:Good", "syntax.py:2: SyntaxError", "syntax.py:2"),
        ("imports:Good", "No module named 'no_such_library'", "install 'no_such_library'"),
        ("app.py:Good", "'app.py:Good' names a file", "name the module: app:Good"),
        ("app", "'app' names no class", "write MODULE:CLASS"),
    ],
)
def test_a_bad_module_class_is_two_lines_and_2(place: Place, target: str, what: str, do: str) -> None:
    happened, hint = refused(place, 2, target)
    assert any(words in happened for words in what.split("|")), happened
    assert any(words in hint for words in do.split("|")), hint


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("nodes: [{identifier: node-1, files: [{path: /a, content: b}", "bad.yaml:2:1: not YAML"),
        ("nodes:\n- identifier: node-1\n  files:\n  - path: /a\n", "bad.yaml:4"),
        (
            "nodes:\n- identifier: n\n  files: [{path: /a, content: b}]\n- identifier: n\n  files: []\n",
            "bad.yaml:4",
        ),
        ("nodes: !!python/object/apply:os.system ['true']\n", "bad.yaml:1"),
    ],
)
def test_a_bad_bundle_is_its_line_and_what_was_expected(place: Place, text: str, what: str) -> None:
    place.write("bad.yaml", text)
    happened, _ = refused(place, 2, "--bundle", "bad.yaml")
    assert what in happened


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("port: 4400\nsource: {kind: static, artifacts_path: nosuch.yaml}\n", "server.yaml:2"),
        ("port: 70000\nsource: {kind: static, artifacts_path: bundle.yaml}\n", "server.yaml:1"),
        (
            "port: 0\nhost: 0.0.0.0\nsource: {kind: static, artifacts_path: bundle.yaml}\n",
            "host 0.0.0.0 is open",
        ),
    ],
)
def test_a_bad_server_file_is_its_line_and_what_was_expected(place: Place, text: str, what: str) -> None:
    place.write("server.yaml", text)
    happened, do = refused(place, 2, "--config", "server.yaml")
    assert what in happened
    if "host" in what:
        assert do.endswith("add `insecure_no_tls: true` to server.yaml")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "nothing to serve"),
        (("app:Good", "--bundle", "bundle.yaml"), "MODULE:CLASS and --bundle each name something to serve"),
        (("app:Good", "--port", "70000"), "--port"),
        (("app:Good", "--host", "0.0.0.0"), "open to other machines, without TLS"),
    ],
)
def test_bad_flags_are_two_lines_and_2(place: Place, arguments: tuple[str, ...], what: str) -> None:
    happened, _ = refused(place, 2, *arguments)
    assert what in happened


def test_a_store_of_an_unknown_kind_is_two_lines_without_its_password(place: Place) -> None:
    happened, do = refused(place, 2, "app:Good", "--store", "oracle://me:hunter2@db/x")
    assert "hunter2" not in happened + do
    assert "oracle" in happened


def test_a_port_in_use_is_the_machines_no(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        happened, do = refused(place, 1, "app:Good", "--store", "memory:", "--port", str(port))
    assert happened == f"cannot listen on 127.0.0.1:{port}: Address already in use"
    assert "--port" in do


def test_an_address_of_another_machine_is_the_machines_no(place: Place) -> None:
    happened, _ = refused(
        place,
        *(1, "app:Good", "--store", "memory:", "--host", "192.0.2.1"),
        *("--insecure-no-tls", "--insecure-no-auth"),
    )
    assert happened.startswith("cannot listen on 192.0.2.1:")


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table browser_history (url text)")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("pragma user_version = 99")


def flipped(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 400)


@pytest.mark.parametrize(
    ("of_ours", "make", "what"),
    [
        (False, Path.mkdir, "is a directory"),
        (False, lambda path: path.write_bytes(b""), "has 0 bytes"),
        (False, lambda path: path.write_bytes(b"this is a letter\n" * 100), "is not a cfgsync store"),
        (False, foreign, "is a database of another program"),
        (True, newer, "was written by a newer cfgsync (schema 99, this one knows "),
        (True, flipped, "is damaged"),
        (True, lambda path: path.write_bytes(path.read_bytes()[:5000]), "is damaged"),
    ],
    ids=["directory", "0 bytes", "a letter", "foreign", "newer schema", "flipped bytes", "truncated"],
)
def test_a_store_that_must_not_be_opened_is_the_machines_no_and_stays_as_it_is(
    place: Place, of_ours: bool, make: object, what: str
) -> None:
    path = place.directory / "store.db"
    url = f"sqlite:{path}"
    if of_ours:
        server = place.serve("application:Fleet", "--store", url, cwd=HERE)
        assert server.ask("POST", "/register", b'{"identifier":"n","ip":"127.0.0.1"}').status == 202
        assert server.stop() == 0
    assert callable(make)
    make(path)
    before = path.read_bytes() if path.is_file() else None
    happened, do = refused(place, 1, "app:Good", "--store", url)
    assert what in happened
    assert str(path) in happened
    assert do
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_store_below_a_file_cannot_be_made(place: Place) -> None:
    happened, _ = refused(place, 1, "app:Good", "--store", f"sqlite:{place.directory}/app.py/store.db")
    assert "cannot open" in happened


def test_a_second_server_on_the_same_store_is_refused_with_the_first_ones_pid(place: Place) -> None:
    first = place.serve("app:Good")
    happened, do = refused(place, 1, "app:Good", "--port", "0")
    assert happened.endswith(f"is in use by another server (pid {first.process.pid})")
    assert do == "stop that server, or give this one a store of its own"
    assert first.ask("GET", "/readyz").status == 200
