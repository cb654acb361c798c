"""Every refusal is two lines: what happened, what to do. A table of what can go wrong, for each command that meets it."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cfgsync_runtime.cli.entry import main
from cfgsync_runtime.cli.parts import server_client
from tests.scripted_server import Cut, Heard, Says, ScriptedServer

EVIL = "\x1b[2J\x1b]0;owned\x07"


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command line in an empty directory, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    for name in [name for name in os.environ if name.startswith("CFGSYNC_")]:
        monkeypatch.delenv(name)

    def start(*words: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(words)
        code = ended.value.code
        assert isinstance(code, int)
        return Ended(code, *capsys.readouterr())

    yield start
    sys.path[:] = [place for place in sys.path if place not in ("", str(tmp_path))]


def refused(ended: Ended, *codes: int) -> None:
    assert ended.code in codes, ended
    assert ended.out == ""
    happened, do = ended.err.splitlines()
    assert happened.strip()
    assert do.strip()
    assert "defect of cfgsync" not in do, "nobody said what to do"
    assert ended.err.replace("\n", "").isprintable()
    assert "Traceback" not in ended.err


# ── what asks a server ───────────────────────────────────────────────────────────────────────────────────────────────

ASKING = {
    "status": ["status"],
    "status ID": ["status", "node-1"],
    "status --json": ["status", "--json"],
    "status --watch": ["status", "--watch"],
    "status --wait-applied": ["status", "--wait-applied", "--timeout", "0"],
    "status --save-snapshot": ["status", "--save-snapshot", "fleet.json"],
    "node list": ["node", "list"],
    "node evict": ["node", "evict", "node-1"],
    "node replace": ["node", "replace", "node-1", "--clear"],
    "generation list": ["generation", "list"],
    "generation show": ["generation", "show"],
    "generation show N": ["generation", "show", "1"],
    "generation diff": ["generation", "diff"],
    "generation diff A B": ["generation", "diff", "1", "2"],
    "generation rebuild": ["generation", "rebuild", "--timeout", "0"],
    "generation renew": ["generation", "renew", "--timeout", "0"],
}
HTML = b"<html>" + EVIL.encode() + b"</html>"
WORDS = json.dumps({"code": "unavailable", "message": f"so it is {EVIL}"}).encode()
ANSWERS = {
    "nothing": Cut(),
    "half an answer": Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
    "no HTTP": Cut(EVIL.encode() + b"\r\n\r\n"),
    "200 that is a page": Says(200, HTML),
    "200 that is no text": Says(200, b"\xff\xfe"),
    "200 that is another's JSON": Says(200, b'["' + b"x" * 300 + b'"]'),
    "301": Says(301, b"", {"Location": "http://elsewhere"}),
    "401": Says(401, WORDS),
    "403": Says(403, HTML),
    "404": Says(404, HTML),
    "404 with words": Says(404, WORDS),
    "405": Says(405, b""),
    "500": Says(500, WORDS),
    "503": Says(503, WORDS),
}


@pytest.mark.parametrize("says", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("words", ASKING.values(), ids=ASKING)
def test_whatever_a_server_answers_a_refusal_is_two_lines(
    run: Run, words: list[str], says: Says | Cut
) -> None:
    with ScriptedServer([says]) as server:
        refused(
            run(*words, "--server", server.url),
            *((5,) if getattr(says, "status", 0) in (401, 403) else (1, 6, 7)),
        )


@pytest.mark.parametrize("words", ASKING.values(), ids=ASKING)
def test_nobody_there_is_two_lines_and_exit_7(
    run: Run, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_client, "STARTS_WITHIN", 0.3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        refused(run(*words, "--server", f"http://127.0.0.1:{taken.getsockname()[1]}"), 7)


@pytest.mark.parametrize("url", ["http://", "ftp://a", "http://a,", f"http://{EVIL}", ""])
@pytest.mark.parametrize("words", ASKING.values(), ids=ASKING)
def test_what_is_no_url_is_two_lines_and_exit_2(run: Run, words: list[str], url: str) -> None:
    refused(run(*words, "--server", url), 2)


def test_an_empty_place_of_the_admin_socket_is_usage_and_asks_nothing(run: Run) -> None:
    for words in (["node", "list"], ["generation", "list"], ["status", "--save-snapshot", "x.json"]):
        ended = run(*words, "--admin-socket", "")
        refused(ended, 2)
        assert "--admin-socket: give the path of a socket" in ended.err


def test_a_node_or_a_generation_that_is_not_there_is_two_lines_and_exit_1(run: Run) -> None:
    def told(heard: Heard) -> Says:
        if heard.path.startswith("/admin/generations"):
            return Says(200, b'{"generations":[]}')
        return Says(
            404,
            json.dumps({"code": "missing_config", "message": f"no node {EVIL}", "identifier": "x"}).encode(),
        )

    with ScriptedServer(told) as server:
        for words in (["node", "evict", "x"], ["generation", "show"], ["generation", "diff"]):
            refused(run(*words, "--server", server.url), 1)


def test_words_of_a_server_are_never_commands_to_the_terminal(run: Run) -> None:
    """Every text of every operator's answer is as evil as it can be."""
    one = {"path": EVIL, "size": 1, "mode": EVIL, "digest": EVIL, "content": EVIL}
    other = {**one, "mode": EVIL * 2, "digest": EVIL * 2, "content": "other" + EVIL}
    head = {"generation": f"{EVIL}.{EVIL}", "number": 2, "at": EVIL, "claim": 1, "registrations": EVIL}
    head |= {"replacements": None, "nodes": 1, "replaced": [EVIL], "contents": True}
    changed = {"path": EVIL, "change": "changed", "before": one, "after": other}
    node = {"identifier": EVIL, "digest": EVIL, "files": [one], "replaced": True}
    show = {"generation": head, "shared": [one], "nodes": [node], "next": None}
    diff = {"from": head, "to": head, "shared": [changed], "next": None}
    diff["nodes"] = [
        {"identifier": EVIL, "change": "changed", "files": [changed]},
        {"identifier": EVIL, "change": "added", "files": [{"path": EVIL, "change": "added", "after": one}]},
    ]
    saved = {"cut": "c", "taken_at": EVIL, "version": EVIL, "generation": head, "registrations": []}
    saved |= {"shared": [], "nodes": [], "next": None}
    answers = {
        "/admin/generations": {"generations": [head, {**head, "number": 1}]},
        "/admin/generations?number=2": show,
        "/admin/generations?number=2&contents=1": show,
        "/admin/generations?from=1&to=2": diff,
        "/admin/snapshot": saved,
        "/admin/evict": {"identifier": EVIL},
    }

    def told(heard: Heard) -> Says:
        return Says(
            200,
            json.dumps(answers.get(heard.path, {"outcome": "new", "claim": 1, "generation": EVIL})).encode(),
        )

    for words in (
        ["generation", "list"],
        ["generation", "show"],
        ["generation", "show", "--contents"],
        ["generation", "diff"],
        ["generation", "rebuild"],
        ["node", "evict", EVIL],
        ["status", "--save-snapshot", "fleet.json"],
    ):
        with ScriptedServer(told) as server:
            ended = run(*words, "--server", server.url)
        assert ended.code == 0, ended
        assert ended.out.strip()
        assert ended.out.replace("\n", "").isprintable(), ended.out


# ── what asks nobody ─────────────────────────────────────────────────────────────────────────────────────────────────

APP = """
class Fine:
    def materialize_snapshot(self, registrations):
        raise RuntimeError("boom \\x1b[2J")
class NoVerb: ...
"""
LOCAL: list[tuple[str, int]] = [
    ("frobnicate", 2),
    ("--frobnicate", 2),
    ("demo --nodes 0", 2),
    ("demo --nodes many", 2),
    ("demo --nodes 100000", 2),
    ("demo --keep .", 2),
    ("demo --keep app.py/below", 1),
    ("serve", 2),
    ("serve app", 2),
    ("serve app:", 2),
    ("serve app:Nobody", 2),
    ("serve app:NoVerb", 2),
    ("serve nothing.here:Mine", 2),
    ("serve broken:Mine", 2),
    ("serve app:Fine --bundle b.yaml", 2),
    ("serve app:Fine --port 70000", 2),
    ("serve app:Fine --port x", 2),
    ("serve app:Fine --late never", 2),
    ("serve app:Fine --ttl -1", 2),
    ("serve app:Fine --run-timeout 0", 2),
    ("serve app:Fine --shrink-guard 200", 2),
    ("serve app:Fine --store redis:x", 2),
    ("serve app:Fine --host 0.0.0.0 --port 0", 2),
    ("serve app:Fine --store memory: --port 0 --host 203.0.113.7 --insecure-no-tls --insecure-no-auth", 1),
    ("serve app:Fine --store sqlite:app.py/below.db --port 0", 1),
    ("serve app:Fine --store sqlite:app.py --port 0", 1),
    ("serve --bundle not-there.yaml", 2),
    ("serve --bundle app.py", 2),
    ("serve --bundle .", 2),
    ("serve --config not-there.yaml", 2),
    ("serve --config evil.yaml", 2),
    ("check app:Fine", 2),
    ("check app --snapshot fleet.json", 2),
    ("check app:Fine --snapshot not-there.json", 2),
    ("check app:Fine --snapshot app.py", 2),
    ("check app:Fine --snapshot .", 2),
    ("check app:Fine --store sqlite:not-there.db", 2),
    ("check app:Fine --store sqlite:app.py", 2),
    ("check app:Fine --store redis:x", 2),
    ("check app:Nobody --snapshot fleet.json", 2),
    ("check app:Fine --snapshot fleet.json --run-timeout 0", 2),
    ("store check", 2),
    ("store check --store sqlite:not-there.db", 1),
    ("store check --store sqlite:app.py", 1),
    ("store check --store sqlite:.", 1),
    ("store check --store redis:x", 1),
    ("store new-epoch --store sqlite:not-there.db", 1),
    ("store new-epoch --store memory:", 1),
    ("store new-epoch --store sqlite:app.py", 1),
    ("store new-epoch --store sqlite:app.py --after yesterday", 2),
    ("store new-epoch --store sqlite:app.py --after ffffffff-ffff-7fff-bfff-ffffffffffff", 2),
    ("node frobnicate", 2),
    ("node evict", 2),
    ("node replace node-1", 2),
    ("node replace node-1 --file /a=not-there", 2),
    ("node replace node-1 --file /a=app.py --mode /a=99999", 2),
    ("node replace node-1 --file a", 2),
    ("generation show zero", 2),
    ("generation show 0", 2),
    ("generation diff 1 2 3", 2),
    ("generation rebuild --timeout 31", 2),
    ("status a b", 2),
    ("status --timeout -1", 2),
    ("status a --wait-applied", 2),
    ("status --watch --wait-applied", 2),
    ("status a --save-snapshot f", 2),
]


@pytest.mark.parametrize(("line", "code"), LOCAL, ids=[line for line, _ in LOCAL])
def test_what_cannot_be_done_here_is_two_lines(run: Run, tmp_path: Path, line: str, code: int) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "broken.py").write_text("raise RuntimeError('boom \\x1b[2J')\n")
    (tmp_path / "evil.yaml").write_text('"\\e[2J": 1\n')
    (tmp_path / "fleet.json").write_text("{}")
    refused(run(*line.split()), code)


def test_what_was_wanted_is_said_in_people_s_words(run: Run) -> None:
    assert "Invalid value for '--nodes': 'many' is not a whole number." in run("demo", "--nodes", "many").err
    assert "'soon' is not a number." in run("status", "--timeout", "soon").err
    away = run("serve", "app:X", "--store", "memory:", "--host", "203.0.113.7", "--port", "0")
    assert "--insecure-no-tls" in away.err


def test_a_secret_file_that_does_not_exist_is_a_usage_error_and_no_secret_is_made(
    run: Run, tmp_path: Path
) -> None:
    ended = run("fetch", "--id", "node-1", "--out", "out", "--secret-file", "secrte")
    refused(ended, 2)
    assert "--secret-file: there is no file secrte" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("blank", [" ", "\n", "\t"])
def test_a_blank_verify_key_is_refused_and_an_empty_one_is_said_to_verify_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, blank: str
) -> None:
    fetch = ("fetch", "--server", "http://127.0.0.1:1", "--id", "node-1", "--out", "out", "--wait", "0.1")
    refused(run(*fetch, "--verify-key", ""), 2)
    monkeypatch.setenv("CFGSYNC_VERIFY_KEY", blank)
    refused(run(*fetch), 2)
    monkeypatch.setenv("CFGSYNC_VERIFY_KEY", "")
    ended = run(*fetch)
    assert ended.code == 7
    assert ended.err.startswith(
        "warning: CFGSYNC_VERIFY_KEY is empty, which counts as not set: no signature is verified\n"
    )


def test_a_secret_that_is_given_in_place_of_its_file_is_not_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = "this-is-my-node-secret-0123"
    monkeypatch.setenv("CFGSYNC_SECRET_FILE", given)
    ended = run("fetch", "--id", "node-1", "--out", "out")
    refused(ended, 2)
    assert (
        "there is no file this-is-…: put the node's secret there (CFGSYNC_SECRET_FILE takes a FILE, too)"
        in ended.err
    )
    assert given not in ended.err + ended.out
