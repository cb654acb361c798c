"""`cfgsync-client` as a process: the original's variables, defaults, places and words; what it does better is waiting,
naming the cause, and writing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import RegistrationPayload, StaticConfigSource
from cfgsync_runtime import ServerCertificate, serving_source
from cfgsync_runtime.cli.dropins.client import OriginalOutputs, read_environment
from cfgsync_runtime.errors import InputError
from cfgsync_runtime.testing.served import Served
from tests.certificates import Authority
from tests.scripted_server import (
    OriginalServer,
    Says,
    Script,
    ScriptedServer,
    error,
    files,
)

CLIENT = Path(sys.executable).with_name("cfgsync-client")
CONFIG = ArtifactFile("/config.yaml", "id: node-1\n")
DEPLOYMENT = ArtifactFile("/deployment.yaml", "cluster: ready\n")
REGISTERED = Says(202)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment() -> dict[str, str]:
    """As bare as in a container: not even a home."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Run the client to its end in `tmp_path`, with these variables."""

    def start(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CLIENT, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment | variables,
            timeout=30,
            check=False,
        )

    return start


def original(*served: ArtifactFile, schema: int = 1) -> Says:
    """The 200 of an original server: neither digest nor generation."""
    return listing(*((file.path, file.data.decode()) for file in served), schema=schema)


def listing(*served: tuple[str, str], schema: int = 1) -> Says:
    """The same, of any paths and contents."""
    words = {"schema_version": schema, "files": [{"path": path, "content": text} for path, text in served]}
    return Says(200, json.dumps(words).encode(), {"content-type": "application/json"})


def failed(run: Run, script: Script, **variables: str) -> list[str]:
    """The two lines with which the client fails at such a server, the first without its `Error: `."""
    with ScriptedServer(script) as server:
        done = run(CFG_SERVER_ADDR=server.url, **{"CFGSYNC_WAIT": "0.5", "CFG_FILE_PATH": "c"} | variables)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False), done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("waiting: ")]
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("Error: ")
    assert "--" not in lines[1] or "cfgsync fetch --" in lines[1], "a flag of another command"
    return [lines[0].removeprefix("Error: "), lines[1]]


# ── what it sends ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_any_variable_it_asks_as_the_original_does_at_the_port_that_is_given(run: Run) -> None:
    with OriginalServer() as server:
        done = run(LOGOS_BLOCKCHAIN_CFGSYNC_PORT=str(server.port), CFG_FILE_PATH="c")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "unidentified-node: 1 file in place\n"
    assert [(heard.method, heard.path, heard.body) for heard in server.heard] == [
        ("POST", path, b'{"identifier":"unidentified-node","ip":"127.0.0.1"}')
        for path in ("/register", "/node")
    ]
    assert all("authorization" not in heard.headers for heard in server.heard)
    assert {heard.connection for heard in server.heard} == {1}


def test_its_variables_are_what_it_registers(run: Run) -> None:
    with OriginalServer() as server:
        done = run(
            CFG_SERVER_ADDR=server.url + "/",
            LOGOS_BLOCKCHAIN_CFGSYNC_PORT="1",
            CFG_HOST_IP="10.0.0.7",
            CFG_HOST_IDENTIFIER="node-1",
            CFG_REGISTRATION_METADATA_JSON='{"network_port": 3000, "api_port": 18080}',
            CFG_FILE_PATH="a/b/c.yaml",
        )
    assert done.returncode == 0
    assert server.paths == ["/register", "/node"]
    assert server.heard[0].body == (
        b'{"identifier":"node-1","ip":"10.0.0.7","metadata":{"api_port":18080,"network_port":3000}}'
    )


def test_the_defaults_are_the_originals() -> None:
    made = read_environment({})
    assert (made.registration.identifier, made.registration.ip) == ("unidentified-node", "127.0.0.1")
    assert made.registration.payload == RegistrationPayload()
    assert (str(made.server), made.wait) == ("http://127.0.0.1:4400", 300.0)
    assert made.outputs == OriginalOutputs({})


@pytest.mark.parametrize(
    ("text", "port"), [("4500", 4500), ("+80", 80), ("x", 4400), ("", 4400), ("-1", 4400), ("65536", 4400)]
)
def test_a_default_port_that_is_none_is_4400_without_a_word(text: str, port: int) -> None:
    assert read_environment({"LOGOS_BLOCKCHAIN_CFGSYNC_PORT": text}).server.port == port


@pytest.mark.parametrize("value", ["[1,2]", '"text"', "7", "true", "null"])
def test_metadata_is_any_json_value(value: str) -> None:
    payload = read_environment({"CFG_REGISTRATION_METADATA_JSON": value}).registration.payload
    assert payload.raw_json() == (None if value == "null" else value)


@pytest.mark.parametrize(
    ("variable", "value", "what"),
    [
        ("CFG_HOST_IP", "x", "CFG_HOST_IP `x` is not a valid IPv4 address"),
        ("CFG_HOST_IP", "", "CFG_HOST_IP `` is not a valid IPv4 address"),
        ("CFG_HOST_IP", "::1", "CFG_HOST_IP `::1` is not a valid IPv4 address"),
        ("CFG_HOST_IP", "127.0.0.01", "CFG_HOST_IP `127.0.0.01` is not a valid IPv4 address"),
        ("CFG_HOST_IP", "10.0.0.1 10.0.0.2", "CFG_HOST_IP `10.0.0.1 10.0.0.2` is not a valid IPv4 address"),
        ("CFG_REGISTRATION_METADATA_JSON", "{", "parsing CFG_REGISTRATION_METADATA_JSON: not JSON"),
        ("CFG_REGISTRATION_METADATA_JSON", "", "parsing CFG_REGISTRATION_METADATA_JSON: not JSON"),
        ("CFG_REGISTRATION_METADATA_JSON", "NaN", "parsing CFG_REGISTRATION_METADATA_JSON: "),
        ("CFG_REGISTRATION_METADATA_JSON", '"\udcff"', "parsing CFG_REGISTRATION_METADATA_JSON: "),
        ("CFG_REGISTRATION_METADATA_JSON", f'"{"x" * 17_000}"', "parsing CFG_REGISTRATION_METADATA_JSON: "),
        ("CFG_REGISTRATION_METADATA_JSON", "[" * 100_000, "parsing CFG_REGISTRATION_METADATA_JSON: "),
        ("CFG_HOST_IDENTIFIER", "", "CFG_HOST_IDENTIFIER: "),
        ("CFG_HOST_IDENTIFIER", "../x", "CFG_HOST_IDENTIFIER: "),
        ("CFG_SERVER_ADDR", "", "CFG_SERVER_ADDR: "),
        ("CFG_SERVER_ADDR", "cfgsync", "CFG_SERVER_ADDR: "),
        ("LOGOS_BLOCKCHAIN_CFGSYNC_PORT", "0", "CFG_SERVER_ADDR: "),
        ("CFGSYNC_WAIT", "soon", "CFGSYNC_WAIT: 'soon' is not a number of seconds"),
        ("CFGSYNC_WAIT", "-1", "CFGSYNC_WAIT: "),
        ("CFGSYNC_WAIT", "inf", "CFGSYNC_WAIT: "),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(variable: str, value: str, what: str) -> None:
    with pytest.raises(InputError) as refused:
        read_environment({variable: value})
    assert str(refused.value).startswith(what)
    assert refused.value.hint


def test_such_a_variable_ends_with_1_and_nobody_is_asked(run: Run) -> None:
    with OriginalServer() as server:
        for variables in ({"CFG_HOST_IP": "x"}, {"CFG_REGISTRATION_METADATA_JSON": ""}):
            done = run(CFG_SERVER_ADDR=server.url, **variables)
            assert (done.returncode, done.stdout) == (1, "")
            first, second = done.stderr.splitlines()
            assert first.startswith(("Error: CFG_HOST_IP `x` is not a valid", "Error: parsing CFG_REGIS"))
            assert second
    assert server.heard == []


# ── where files go ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("config", ["/config.yaml", "config.yaml"])
@pytest.mark.parametrize(
    "deployment", ["/deployment.yaml", "/deployment-settings.yaml", "deployment-settings.yaml"]
)
def test_two_variables_route_the_originals_five_names(config: str, deployment: str) -> None:
    outputs = read_environment({"CFG_FILE_PATH": "a/c", "CFG_DEPLOYMENT_PATH": "/b/d"}).outputs
    assert outputs.plan([ArtifactFile(config, ""), ArtifactFile(deployment, "")]).paths == ("a/c", "/b/d")


def test_files_are_written_where_the_variables_say(run: Run, tmp_path: Path) -> None:
    key = ArtifactFile("/deployment-settings.yaml", b"\xff", "0600")
    with ScriptedServer([REGISTERED, files([CONFIG, key])]) as server:
        done = run(
            CFG_SERVER_ADDR=server.url, CFG_FILE_PATH="etc/c.yaml", CFG_DEPLOYMENT_PATH=f"{tmp_path}/d"
        )
    assert (done.returncode, done.stderr) == (0, "unidentified-node: 2 files in place\n")
    assert (tmp_path / "etc/c.yaml").read_text() == "id: node-1\n"
    assert (tmp_path / "d").read_bytes() == b"\xff"
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o600
    assert server.heard[1].headers["cfgsync-accept"] == "base64, mode"
    assert sorted(os.listdir(tmp_path)) == ["d", "etc"]  # no state anywhere
    assert os.listdir(tmp_path / "etc") == ["c.yaml"]


@pytest.mark.parametrize(
    ("path", "do"),
    [
        ("/config.yaml", "set CFG_FILE_PATH to its place, or set CFG_ALLOW_ANY_PATH=1 to write it"),
        ("/deployment.yaml", "set CFG_DEPLOYMENT_PATH to its place, or set CFG_ALLOW_ANY_PATH=1"),
        ("deployment.yaml", "not routed: set CFG_ALLOW_ANY_PATH=1"),
        ("{tmp}/other", "not routed: set CFG_ALLOW_ANY_PATH=1"),
    ],
)
@pytest.mark.parametrize("word", ["", "0", "true"])
def test_a_file_without_a_route_is_refused_before_anything_is_written(
    tmp_path: Path, path: str, do: str, word: str
) -> None:
    outputs = read_environment({"CFG_ALLOW_ANY_PATH": word}).outputs
    with pytest.raises(Exception, match="is not routed: set CFG_") as refused:
        outputs.plan([ArtifactFile(path.format(tmp=tmp_path), "")])
    assert do in str(refused.value)


def test_that_refusal_ends_with_1_and_touches_nothing(run: Run, tmp_path: Path) -> None:
    other = ArtifactFile(f"{tmp_path}/other", "x")
    what, do = failed(run, [REGISTERED, original(CONFIG, other)])
    assert what.startswith(f"file '{tmp_path}/other' is not routed: set CFG_ALLOW_ANY_PATH=1")
    assert do.startswith("nothing was written")
    assert os.listdir(tmp_path) == []


def test_with_cfg_allow_any_path_it_is_written_where_the_server_says(run: Run, tmp_path: Path) -> None:
    absolute = ArtifactFile(f"{tmp_path}/deep/er/absolute", "1")
    relative = ArtifactFile("x/../relative", "2")
    with ScriptedServer([REGISTERED, original(CONFIG, absolute, relative)]) as server:
        (tmp_path / "x").mkdir()
        done = run(CFG_SERVER_ADDR=server.url, CFG_FILE_PATH="c", CFG_ALLOW_ANY_PATH="1")
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / name).read_text() for name in ("c", "deep/er/absolute", "relative")] == [
        "id: node-1\n",
        "1",
        "2",
    ]


@pytest.mark.parametrize("path", ["", "/", "a/", "a/..", "a\0b", "{tmp}/n" + "x" * 300, "/proc/no/such"])
def test_a_place_that_cannot_be_is_an_error_and_nothing_is_written(
    run: Run, tmp_path: Path, path: str
) -> None:
    says = listing(("/config.yaml", "x"), (path.format(tmp=tmp_path), "x"))
    failed(run, [REGISTERED, says], CFG_ALLOW_ANY_PATH="1")
    assert os.listdir(tmp_path) == []


def test_two_files_for_one_place_are_refused(run: Run, tmp_path: Path) -> None:
    what, _ = failed(run, [REGISTERED, original(CONFIG, ArtifactFile("config.yaml", "2"))])
    assert "have the same target" in what
    assert os.listdir(tmp_path) == []


# ── how it fails ─────────────────────────────────────────────────────────────────────────────────────────────────────


def at_node(says: Says) -> Script:
    return lambda heard: REGISTERED if heard.path == "/register" else says


MISSING = error(404, "missing_config", "missing config for host node-1")


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ([MISSING], "registering node with cfgsync: missing config for host node-1"),
        (at_node(MISSING), "fetching node artifacts: missing config for host node-1"),
        (
            at_node(error(425, "not_ready", "config for host n is not ready")),
            "fetching node artifacts: not ready",
        ),
        (
            at_node(error(500, "internal", "failed to materialize config snapshot: no")),
            "fetching node artifacts: no files after 0.5 s: failed to materialize config snapshot: no",
        ),
        ([error(401, "unauthorized")], "registering node with cfgsync: "),
        ([error(422, "invalid_request", "ip: no")], "registering node with cfgsync: "),
        ([Says(404)], "registering node with cfgsync: "),
        (at_node(original(CONFIG, schema=2)), "unsupported cfgsync payload schema version 2, expected 1"),
        (at_node(original()), "cfgsync payload contains no files"),
        (at_node(files([CONFIG], etag="sha256-" + "0" * 64)), "the files have digest "),
        (at_node(Says(200, b"{", {"content-type": "application/json"})), ""),
        ([Says(307, headers={"Location": "http://127.0.0.1:1/register"})], ""),
    ],
    ids=[
        *("missing", "missing at node", "not ready", "failing", "unauthorized", "wrong", "no cfgsync"),
        *("schema 2", "no files", "digest", "undecodable", "redirect"),
    ],
)
def test_the_originals_words_and_the_cause(run: Run, tmp_path: Path, script: Script, what: str) -> None:
    found, _ = failed(run, script)
    assert found.startswith(what)
    assert len(found) > len("fetching node artifacts: ")
    assert os.listdir(tmp_path) == []


def test_where_nobody_listens_the_cause_is_named_and_the_variable(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    done = run(CFG_SERVER_ADDR=address, CFGSYNC_WAIT="0.5")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "Error: registering node with cfgsync: no answer from the server after 0.5 s: connection refused",
        "is the server running, and is its URL (CFG_SERVER_ADDR) right?",
    ]


def test_a_server_that_never_answers_is_given_up_when_the_time_is_over(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        done = run(CFG_SERVER_ADDR=f"http://127.0.0.1:{silent.getsockname()[1]}", CFGSYNC_WAIT="0.7")
    assert done.returncode == 1
    assert time.monotonic() - began < 5
    assert "no answer in time" in done.stderr


def test_arguments_are_passed_over_with_a_word_and_help_is_help(run: Run) -> None:
    with OriginalServer() as server:
        done = run("x", CFG_SERVER_ADDR=server.url, CFG_FILE_PATH="c")
        assert done.returncode == 0
        assert done.stderr.startswith("note: cfgsync-client takes no arguments, 'x' is ignored\n")
    shown = run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    variables = {"CFG_SERVER_ADDR", "CFG_HOST_IP", "CFG_HOST_IDENTIFIER", "CFG_REGISTRATION_METADATA_JSON"}
    variables |= {"CFG_FILE_PATH", "CFG_DEPLOYMENT_PATH", "CFG_ALLOW_ANY_PATH", "CFGSYNC_WAIT"}
    assert variables <= set(shown.stdout.split())


# ── how it waits ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def started(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the client; what still runs at the end of the test is ended."""
    processes: list[subprocess.Popen[str]] = []

    def start(**variables: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [CLIENT],
                cwd=tmp_path,
                env=environment | {"CFG_FILE_PATH": "c", "CFG_HOST_IDENTIFIER": "node-1"} | variables,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


Start = Callable[..., "subprocess.Popen[str]"]


def test_it_waits_longer_than_the_original_and_says_for_what(started: Start, tmp_path: Path) -> None:
    with OriginalServer(quorum=2) as server:
        client = started(CFG_SERVER_ADDR=server.url)
        assert client.stderr is not None
        waiting = client.stderr.readline()
        threading.Timer(1.2, server.registered.add, ("node-2",)).start()  # the original gave up after 1 s
        _, said = client.communicate(timeout=30)
    assert client.returncode == 0
    assert waiting == "waiting: config for host node-1 is not ready\n"
    assert said.splitlines() == ["node-1: 1 file in place"]
    assert (tmp_path / "c").read_text() == "id: node-1\n"


def test_a_server_that_comes_later_and_forgets_everyone_when_it_restarts_is_no_matter(started: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = started(CFG_SERVER_ADDR=f"http://127.0.0.1:{port}")
    time.sleep(0.5)
    with OriginalServer(quorum=2, port=port) as first:
        until = time.monotonic() + 20
        while "/node" not in first.paths:
            assert time.monotonic() < until
            time.sleep(0.01)
    with OriginalServer(port=port) as second:
        client.communicate(timeout=30)
    assert client.returncode == 0
    assert second.registered == {"node-1"}


def test_cfgsync_wait_0_asks_once(run: Run) -> None:
    with OriginalServer(quorum=2) as server:
        done = run(CFG_SERVER_ADDR=server.url, CFGSYNC_WAIT="0", CFG_FILE_PATH="c")
    assert done.returncode == 1
    assert server.paths == ["/register", "/node"]
    assert (
        "Error: fetching node artifacts: not ready after 0 s: config for host unidentified-node"
        in done.stderr
    )
    assert "(CFGSYNC_WAIT)" in done.stderr


def test_ctrl_c_ends_it_without_a_traceback(started: Start) -> None:
    with OriginalServer(quorum=2) as server:
        client = started(CFG_SERVER_ADDR=server.url)
        assert client.stderr is not None
        client.stderr.readline()
        client.send_signal(signal.SIGINT)
        _, said = client.communicate(timeout=30)
    assert (client.returncode, said) == (130, "")


# ── how it starts ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_whole_run_loads_no_event_loop_no_command_line_library_and_no_validator(tmp_path: Path) -> None:
    program = """
        import sys
        from cfgsync_runtime.cli.dropins.client import run

        assert run([], {"CFG_SERVER_ADDR": sys.argv[1], "CFG_FILE_PATH": sys.argv[2]}) == 0
        heavy = {"asyncio", "aiohttp", "typer", "click", "pydantic", "yaml", "sqlite3", "logging"}
        print(sorted(heavy & set(sys.modules)))
    """
    with ScriptedServer([REGISTERED, files(ArtifactSet([CONFIG]))]) as server:
        arguments = [sys.executable, "-c", textwrap.dedent(program), server.url, str(tmp_path / "c")]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
    assert (tmp_path / "c").read_text() == "id: node-1\n"


# ── over TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_verifies_an_https_server_by_the_variables_that_cfgsync_fetch_has(
    run: Run, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.pair()
    files = {"unidentified-node": ArtifactSet([ArtifactFile("/config.yaml", "over TLS")])}
    source = StaticConfigSource(files)
    shown = ServerCertificate(str(cert), str(key))
    with Served(lambda: serving_source(source, source, tls=shown)) as server:
        to = {"CFG_SERVER_ADDR": server.url, "CFG_FILE_PATH": "c", "CFGSYNC_WAIT": "0.3"}
        assert run(**to, CFGSYNC_CA_HASH=authority.hash).returncode == 0
        assert run(**to, CFGSYNC_CA_FILE=str(authority.file)).returncode == 0
        unknown = run(**to)
    assert unknown.returncode == 1
    *_, happened, do = unknown.stderr.splitlines()
    assert happened.startswith(
        "Error: registering node with cfgsync: the server cannot be verified after 0.3 s: unknown CA"
    )
    assert do.startswith("give CFGSYNC_CA_FILE FILE, or the CFGSYNC_CA_HASH that")
    for given, says in (
        ({"CFGSYNC_CA_HASH": "sha256:1"}, "Error: CFGSYNC_CA_HASH: "),
        ({"CFGSYNC_CA_FILE": "absent"}, "Error: CFGSYNC_CA_FILE: absent: no such file"),
        ({"CFGSYNC_CA_HASH": authority.hash, "CFG_SERVER_ADDR": "http://a"}, "Error: CFG_SERVER_ADDR: "),
    ):
        refused = run(**{**to, **given})
        assert (refused.returncode, refused.stderr.startswith(says)) == (1, True), refused.stderr
