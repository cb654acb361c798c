"""The command line as a process: flags, environment, exit codes, what is said where, and what is not loaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile
from tests.scripted_server import Heard, Says, ScriptedServer, error, files
from tests.terminals import Terminal

EPOCH = "0000000f-4240-7000-8000-000000000000"
CONFIG = ArtifactFile("/config.yaml", "id: node-1\n")
REGISTERED = Says(202, headers={"Cfgsync-Version": f"{EPOCH}.1"})
PROGRAM = (sys.executable, "-c", "from cfgsync_runtime.cli import main; main()")
QUORUM = {"name": "quorum", "have": 3, "need": 5, "missing": ["node-4", "node-5"]}
WAITING = error(425, "not_ready", registered=True, retry_after=0, conditions=[QUORUM])

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def ready(heard: Heard) -> Says:
    return REGISTERED if heard.path == "/register" else files([CONFIG], f"{EPOCH}.3")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CFGSYNC_")}
    return {**kept, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "xdg"), "COLUMNS": "80"}


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    def start(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**environment, **more},
            timeout=30,
            check=False,
        )

    return start


def test_fetch_writes_the_files_and_says_so_in_one_line(run: Run, tmp_path: Path) -> None:
    with ScriptedServer(ready) as server:
        done = run("fetch", "--server", server.url, "--id", "node-1", "--out", "out")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "node-1: 1 file in place of generation 3\n"
    assert (tmp_path / "out/current/config.yaml").read_text() == "id: node-1\n"
    assert server.heard[0].body == b'{"identifier":"node-1","ip":"127.0.0.1"}'
    (state,) = (tmp_path / "xdg/cfgsync").iterdir()
    assert len(state.name) == 16
    assert (state / "secret").stat().st_mode & 0o777 == 0o600


def test_every_flag_is_an_environment_variable_and_the_flag_wins(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s" * 32)
    (tmp_path / "secret").write_text("s" * 32)
    (tmp_path / "meta.json").write_text('{"port": 3000}')
    with ScriptedServer(ready) as server:
        done = run(
            "fetch",
            "--id",
            "node-1",
            CFGSYNC_SERVER=server.url,
            CFGSYNC_ID="node-9",
            CFGSYNC_IP="10.0.0.1",
            CFGSYNC_METADATA="@meta.json",
            CFGSYNC_ROUTE="/config.yaml=a.yaml\n/other=b b.yaml\n",
            CFGSYNC_WAIT="5",
            CFGSYNC_FETCH_STATE="kept",
            CFGSYNC_SECRET_FILE="secret",
            CFGSYNC_FETCH_JSON="1",
        )
        assert done.returncode == 0, done.stderr
        by_flag = run(
            "fetch", "--id", "node-1", "--out", "o", CFGSYNC_SERVER=server.url, CFGSYNC_ROUTE="/x=y"
        )
    assert by_flag.returncode == 0, by_flag.stderr
    assert (tmp_path / "o/current/config.yaml").exists()
    assert server.heard[0].body == b'{"identifier":"node-1","ip":"10.0.0.1","metadata":{"port":3000}}'
    assert server.heard[0].headers["authorization"] == "Bearer " + "s" * 32
    assert (tmp_path / "a.yaml").read_text() == "id: node-1\n"
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == ["payload", "seen"]
    assert json.loads(done.stdout) == {
        "status": "ready",
        "exit": 0,
        "identifier": "node-1",
        "generation": f"{EPOCH}.3",
        "digest": server_digest(),
        "files": ["a.yaml"],
        "reason": None,
        "message": "1 file in place",
    }


def test_a_variable_of_fetch_is_none_of_another_command_and_its_former_name_works_with_a_line(
    run: Run, tmp_path: Path
) -> None:
    with ScriptedServer(ready) as server:
        done = run("fetch", CFGSYNC_SERVER=server.url, CFGSYNC_ID="n", CFGSYNC_OUT="o", CFGSYNC_JSON="1")
    assert json.loads(done.stdout)["status"] == "ready"
    assert done.stderr == (
        "note: CFGSYNC_JSON is now called CFGSYNC_FETCH_JSON; the old name works in this release only\n"
    )
    shared = {"CFGSYNC_TIMEOUT": "soon", "CFGSYNC_WATCH": "1", "CFGSYNC_JSON": "no", "CFGSYNC_PORT": "x"}
    for words in (["status"], ["generation", "rebuild"], ["node", "list"]):
        assert run(*words, CFGSYNC_SERVER="http://127.0.0.1:9", **shared).returncode == 7, words


@pytest.mark.parametrize(
    ("flags", "variables", "named"),
    [
        ([], {"CFGSYNC_OUT": '"out"'}, "CFGSYNC_OUT is in quotes"),
        ([], {"CFGSYNC_OUT": "out\r"}, "CFGSYNC_OUT has a control character in it ('\\r', character 4 of 4)"),
        (["--out", "'out'"], {}, "--out is in quotes"),
        (["--out", "out", "--state", "st\r"], {}, "--state has a control character"),
        ([], {"CFGSYNC_ROUTE": '"/a=b"'}, "CFGSYNC_ROUTE is in quotes"),
    ],
)
def test_a_place_on_disk_that_no_shell_has_read_is_refused_before_anything_is_made(
    run: Run, tmp_path: Path, flags: list[str], variables: dict[str, str], named: str
) -> None:
    done = run("fetch", "--id", "n", "--server", "http://127.0.0.1:9", *flags, **variables)
    assert done.returncode == 2
    assert done.stderr.startswith(named)
    assert len(done.stderr.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_flag_beats_a_variable_that_says_the_opposite(run: Run) -> None:
    with ScriptedServer(ready) as server:
        degraded = run(
            "fetch", "--startup-mode", "fail-closed", CFGSYNC_MAX_STALE="5", CFGSYNC_ID="n", CFGSYNC_OUT="o",
            CFGSYNC_SERVER=server.url,
        )  # fmt: skip
    assert degraded.returncode == 0, degraded.stderr
    waiting = run("status", "--wait-applied", "--timeout", "0.1", CFGSYNC_STATUS_WATCH="1",
                  CFGSYNC_SERVER="http://127.0.0.1:9")  # fmt: skip
    assert "is about the whole fleet" not in waiting.stderr


def server_digest() -> str:
    return files([CONFIG]).headers["ETag"].strip('"')


def test_json_is_one_object_with_the_same_keys_when_it_fails(run: Run) -> None:
    with ScriptedServer([REGISTERED, WAITING]) as server:
        done = run("fetch", "--server", server.url, "--id", "n", "--out", "o", "--wait", "0.4", "--json")
    assert done.returncode == 3
    said = json.loads(done.stdout)
    assert list(said) == [
        "status",
        "exit",
        "identifier",
        "generation",
        "digest",
        "files",
        "reason",
        "message",
    ]
    assert (said["status"], said["exit"], said["reason"]) == ("failed", 3, "not_ready")
    assert "missing node-4, node-5" in said["message"]


DEGRADED = ["--id", "n", "--out", "o", "--startup-mode", "degraded"]
TLS: list[str] = ["--id", "n", "--out", "o", "--server", "https://a"]
USAGE: list[tuple[str, list[str], str]] = [
    ("no id", ["--out", "o"], "--id"),
    ("no place", ["--id", "n"], "--out"),
    ("two places", ["--id", "n", "--out", "o", "--route", "/a=b"], "--out"),
    ("a route without a target", ["--id", "n", "--route", "/a"], "PATH=TARGET"),
    ("one file twice", ["--id", "n", "--route", "/a=b", "--route", "/a=c"], "twice"),
    ("a bad id", ["--id", "../n", "--out", "o"], "--id"),
    ("a bad address", ["--id", "n", "--out", "o", "--ip", "127.0.0.01"], "--ip"),
    ("an unspecified address", ["--id", "n", "--out", "o", "--ip", "0.0.0.0"], "--ip"),
    ("a broadcast address", ["--id", "n", "--out", "o", "--ip", "255.255.255.255"], "--ip"),
    ("a multicast address", ["--id", "n", "--out", "o", "--ip", "ff02::1"], "--ip"),
    ("a link-local address", ["--id", "n", "--out", "o", "--ip", "169.254.1.1"], "--ip"),
    ("a bad URL", ["--id", "n", "--out", "o", "--server", "localhost"], "--server"),
    ("one server too few", ["--id", "n", "--out", "o", "--server", "http://a,"], "--server"),
    ("bad metadata", ["--id", "n", "--out", "o", "--metadata", "{"], "--metadata"),
    ("metadata not there", ["--id", "n", "--out", "o", "--metadata", "@nothing"], "--metadata"),
    ("a bad wait", ["--id", "n", "--out", "o", "--wait", "soon"], "--wait"),
    ("a negative wait", ["--id", "n", "--out", "o", "--wait", "-1"], "--wait"),
    ("no number to wait", ["--id", "n", "--out", "o", "--wait", "nan"], "--wait"),
    ("no mode", ["--id", "n", "--out", "o", "--startup-mode", "open"], "--startup-mode"),
    ("stale without a cache", ["--id", "n", "--out", "o", "--max-stale", "5"], "--max-stale"),
    ("a bad age", [*DEGRADED, "--max-stale", "-1"], "--max-stale"),
    ("no number of an age", [*DEGRADED, "--max-stale", "nan"], "--max-stale"),
    ("a signal without a watch", ["--id", "n", "--out", "o", "--reload", "HUP", "--", "true"], "--reload"),
    ("one place for files and memory", ["--id", "n", "--out", "o", "--watch", "--state", "./o/"], "--state"),
    ("a signal for nobody", ["--id", "n", "--out", "o", "--watch", "--reload", "HUP"], "--reload"),
    *[
        (
            f"the signal {name}",
            ["--id", "n", "--out", "o", "--watch", "--reload", name, "--", "true"],
            "--reload",
        )
        for name in ("SIGNONE", "0", "999", "KILL", "SIGSTOP", "-1", "")
    ],
    ("a word too much", ["--id", "n", "--out", "o", "etcd"], "etcd"),
    ("a CA file that is not there", [*TLS, "--ca-file", "nothing"], "--ca-file: nothing: no such file"),
    ("no certificate in a CA file", [*TLS, "--ca-file", __file__], "no certificate in it"),
    ("half a hash", [*TLS, "--ca-hash", "sha256:12"], "64 hexadecimal digits"),
    (
        "a CA file and a hash",
        [*TLS, "--ca-file", __file__, "--ca-hash", f"sha256:{'0' * 64}"],
        "give one of them",
    ),
    (
        "a hash for plain HTTP",
        ["--id", "n", "--out", "o", "--server", "http://a", "--ca-hash", f"sha256:{'0' * 64}"],
        "it verifies an https server",
    ),
]


@pytest.mark.parametrize(("arguments", "words"), [row[1:] for row in USAGE], ids=[row[0] for row in USAGE])
def test_a_usage_error_is_two_lines_and_exit_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cfgsync_runtime.cli.entry import main

    for name in [name for name in os.environ if name.startswith("CFGSYNC_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit) as ended:
        main(["fetch", *arguments])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    happened, do = said.err.splitlines()
    assert words in happened
    assert do == "see: cfgsync fetch --help"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([REGISTERED, WAITING], 3),
        ([error(404, "missing_config")], 4),
        ([error(409, "identity_conflict", "bound to another secret")], 5),
        ([REGISTERED, files([CONFIG], etag="sha256-" + "0" * 64)], 6),
        ([Says(404)], 7),
    ],
)
def test_a_failure_is_two_lines_at_the_end_of_stderr_and_starts_nothing(
    run: Run, tmp_path: Path, script: list[Says], code: int
) -> None:
    with ScriptedServer(script) as server:
        done = run(
            "fetch",
            "--server",
            server.url,
            "--id",
            "n",
            "--out",
            "o",
            "--wait",
            "0.4",
            "--",
            "touch",
            "started",
        )
    assert (done.returncode, done.stdout) == (code, "")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("waiting: ")]
    assert len(lines) == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "started").exists()
    if code == 5:
        assert "cfgsync node evict n" in lines[1]
    if code == 7:
        assert "is this a cfgsync server?" in lines[1]


def test_without_a_terminal_there_is_a_line_for_each_change(run: Run) -> None:
    with ScriptedServer([REGISTERED, WAITING, WAITING, files([CONFIG])]) as server:
        done = run("fetch", "--server", server.url, "--id", "n", "--out", "o")
    assert done.stderr.splitlines() == [
        "waiting: 3 of 5 nodes, missing node-4, node-5",
        "n: 1 file in place",
    ]


def test_a_terminal_shows_one_live_line(tmp_path: Path, environment: dict[str, str]) -> None:
    words = [*PROGRAM, "fetch", "--id", "n", "--out", "o", "--server"]
    with ScriptedServer([REGISTERED, WAITING, files([CONFIG])]) as server:
        with Terminal([*words, server.url], environment=environment, cwd=tmp_path) as terminal:
            assert terminal.end() == 0
        live = [f"asking {server.url}", "3 of 5 nodes, missing node-4, node-5"]
    assert terminal.written == "".join(f"\rwaiting: {why}\x1b[K" for why in live) + (
        "\r\x1b[Kn: 1 file in place\r\n"
    )
    assert terminal.screen.text == "n: 1 file in place"
    held = [request.headers["prefer"] for request in server.heard[1:-1]]  # the last one acknowledges
    assert held == ["wait=1", "wait=2"], "at a terminal the reason is seen soon"


def test_the_live_line_is_one_line_in_forty_columns_whatever_the_reason(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    why = error(425, "not_ready", "等待节点" * 20 + "\x1b[2J\nrm", registered=True, retry_after=0)
    words = [*PROGRAM, "fetch", "--id", "n", "--out", "o", "--server"]
    with (
        ScriptedServer([REGISTERED, why, Says(425, after=60)]) as server,
        Terminal([*words, server.url], environment=environment, cwd=tmp_path, columns=40) as terminal,
    ):
        terminal.until("等待")
        terminal.ctrl_c()
        assert terminal.end() == 130
    shown = terminal.written.split("\r")[2].partition("\x1b")[0]
    assert shown == "waiting: 等待节点等待节点等待节点等待…"
    assert terminal.screen.text == ""


def test_a_terminal_that_calls_itself_dumb_gets_a_line_for_each_change(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    words = [*PROGRAM, "fetch", "--id", "n", "--out", "o", "--server"]
    with (
        ScriptedServer([REGISTERED, WAITING, files([CONFIG])]) as server,
        Terminal([*words, server.url], environment=environment, cwd=tmp_path, term="dumb") as terminal,
    ):
        assert terminal.end() == 0
    assert terminal.written == "waiting: 3 of 5 nodes, missing node-4, node-5\r\nn: 1 file in place\r\n"


# ── the command after the files ──────────────────────────────────────────────────────────────────────────────────────


def test_the_command_replaces_the_process_when_the_files_are_there(run: Run, tmp_path: Path) -> None:
    with ScriptedServer(ready) as server:
        done = run(
            "fetch", "--server", server.url, "--id", "n", "--out", "o", "--json",
            "--", "sh", "-c", 'cat o/current/config.yaml; echo "$@"; exit 42', "sh", "--json", "--", "-x",
        )  # fmt: skip
    assert done.returncode == 42
    said, *rest = done.stdout.splitlines()
    assert json.loads(said)["exit"] == 0
    assert rest == ["id: node-1", "--json -- -x"]


def test_the_command_gets_signals_as_a_shell_would_give_them(run: Run) -> None:
    lines = "grep -E 'SigIgn|SigBlk' /proc/self/status | cut -f2"
    with ScriptedServer(ready) as server:
        done = run("fetch", "--server", server.url, "--id", "n", "--out", "o", "--", "sh", "-c", lines)
    assert [int(mask, 16) & (1 << (signal.SIGPIPE - 1)) for mask in done.stdout.split()] == [0, 0]


@pytest.mark.parametrize(("name", "code"), [("no-such-program-here", 127), ("./plain.txt", 126), (".", 126)])
def test_a_command_that_cannot_start_ends_as_in_a_shell_and_before_anything_is_asked(
    run: Run, tmp_path: Path, name: str, code: int
) -> None:
    (tmp_path / "plain.txt").write_text("no program")
    with ScriptedServer(ready) as server:
        done = run("fetch", "--server", server.url, "--id", "n", "--out", "o", "--", name)
    assert done.returncode == code
    assert "nothing was written" in done.stderr.splitlines()[-1]
    assert server.heard == []


def test_ctrl_c_is_130_without_a_traceback(tmp_path: Path, environment: dict[str, str]) -> None:
    with ScriptedServer([REGISTERED, Says(425, after=60)]) as server:
        arguments = ["fetch", "--server", server.url, "--id", "n", "--out", "o"]
        process = subprocess.Popen(
            [*PROGRAM, *arguments], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
        )
        until = time.monotonic() + 20
        while len(server.heard) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert b"Traceback" not in said


# ── help, version, status ────────────────────────────────────────────────────────────────────────────────────────────


def test_help_names_the_commands_and_loads_none_of_them(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in ("demo", "serve", "fetch", "status"):
        assert name in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    unknown = run("frobnicate")
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (2, 2)
    assert run("--version").stdout.startswith("cfgsync ")


def test_a_fetch_loads_no_event_loop_no_web_library_no_validator_and_no_typer(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    program = (
        "import atexit, os, sys\n"
        "real = os._exit\n"
        "os._exit = lambda code: (print(*sorted(sys.modules)), sys.stdout.flush(), real(code))\n"
        "from cfgsync_runtime.cli import main; main()\n"
    )
    with ScriptedServer(ready) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, "fetch", "--server", server.url, "--id", "n", "--out", "o"],
            capture_output=True, text=True, cwd=tmp_path, env=environment, check=True, timeout=30,
        )  # fmt: skip
    loaded = set(done.stdout.split())
    assert "cfgsync_runtime.node.fetch" in loaded
    heavy = {"asyncio", "aiohttp", "pydantic", "rich", "yaml", "sqlite3", "aiofiles", "multiprocessing"}
    assert loaded & heavy == set()
    assert (
        loaded & {"typer", "click", "inspect", "typing_extensions", "ssl", "subprocess"} == set()
    )  # ADR 0028


FLEET = {
    "generation": f"{EPOCH}.3",
    "revision": 12,
    "registered": 2,
    "waiting": 1,
    "state": "not_ready",
    "converged": False,
    "applied": 1,
    "reason": "waiting for 5 nodes, have 3",
    "conditions": [{"name": "quorum", "have": 3, "need": 5}],
    "nodes": [
        {"identifier": "node-1", "registered": True, "waiting": False, "served": f"{EPOCH}.3", "applied": f"{EPOCH}.3", "state": "applied",
         "last_failure": None, "last_seen": "2026-01-02T03:04:05Z"},
        {"identifier": "n" * 128, "registered": True, "waiting": True, "served": None, "applied": None,
         "last_failure": None, "last_seen": "2026-01-02T03:04:05Z"},
    ],
}  # fmt: skip


def test_status_is_a_table_within_eighty_columns(run: Run) -> None:
    with ScriptedServer([Says(200, json.dumps(FLEET).encode())]) as server:
        done = run("status", "--server", server.url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "generation 3, 2 registered, 1 held request, 1 applied"
    assert "not ready: waiting for 5 nodes, have 3" in lines
    assert "quorum: 3 of 5 nodes" in lines
    assert [line.split() for line in lines if line.startswith("node-1")] == [
        ["node-1", "applied", "3", "3", "2026-01-02T03:04:05Z"]
    ]


def test_status_asks_for_the_nodes_that_one_answer_does_not_hold(run: Run) -> None:
    def told(heard: Heard) -> Says:
        names = {"/status": "ab", "/status?after=b": "cd", "/status?after=d": "e"}[heard.path]
        nodes = [{"identifier": name, "registered": True} for name in names]
        return Says(200, json.dumps({**FLEET, "registered": 5, "nodes": nodes}).encode())

    with ScriptedServer(told) as server:
        done = run("status", "--server", server.url)
    assert [line.split()[0] for line in done.stdout.splitlines()[-5:]] == list("abcde")
    assert {heard.connection for heard in server.heard} == {1}


def test_status_of_one_node_and_as_json_is_what_the_server_says(run: Run) -> None:
    node = {
        "identifier": "node-7",
        "registered": False,
        "reason": "never registered here",
        "state": "not_registered",
    }
    body = json.dumps(node).encode()
    with ScriptedServer([Says(200, body)]) as server:
        one = run("status", "node-7", "--server", server.url)
        raw = run("status", "node-7", "--json", CFGSYNC_SERVER=server.url)
    assert "node-7: not_registered" in one.stdout
    assert "never registered here" in one.stdout
    assert raw.stdout.encode() == body + b"\n"
    assert (one.returncode, raw.returncode) == (1, 1)
    assert server.paths == ["/status/node-7"] * 2


def test_status_of_what_can_be_no_name_is_usage_and_asks_nobody(run: Run) -> None:
    with ScriptedServer([Says(404)]) as server:
        done = run("status", "a/b", "--server", server.url)
    assert done.returncode == 2
    assert "there is no such name as 'a/b': a name is 1 to 128 of A-Z" in done.stderr
    assert server.paths == []


def test_status_without_a_server_is_two_lines_and_exit_7(run: Run) -> None:
    with ScriptedServer([Says(404)]) as server:
        foreign, url = run("status", "--server", server.url), server.url
    gone = run("status", "--server", url)
    assert (foreign.returncode, gone.returncode) == (7, 7)
    assert "is this a cfgsync server?" in foreign.stderr
    assert "connection refused" in gone.stderr
    assert len(foreign.stderr.splitlines()) == len(gone.stderr.splitlines()) == 2
