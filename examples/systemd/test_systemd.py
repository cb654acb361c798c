"""systemd checks the units, and their commands run on this machine."""

import configparser
import shlex
import shutil
import socket
import subprocess
import sys
import uuid
import warnings
from pathlib import Path

import pytest

from examples.here import Here, https_url, made_certificate
from tests.processes import PATIENCE, Place, Server, ended

HERE = Path(__file__).parent
UNITS = sorted(path.name for path in HERE.glob("*.service"))
NODES = ("node-1", "node-2", "node-3")


@pytest.fixture
def systemd_analyze():
    """systemd's own check. Where it is not installed, the test is skipped and prints a warning, even where storage engines
    are required: it is not one."""
    if shutil.which("systemd-analyze"):
        return
    line = "NOT TESTED: no unit was verified, systemd-analyze not found (apt: systemd)"
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(line, stacklevel=1)
    pytest.skip(line)


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign] # case matters
    parser.read_string((HERE / name).read_text().replace("\\\n", " "))
    return parser


def command(name: str) -> list[str]:
    """What the unit starts, without the path of cfgsync."""
    path, *words = shlex.split(unit(name)["Service"]["ExecStart"])
    assert path == "/usr/local/bin/cfgsync"
    return words


@pytest.mark.usefixtures("systemd_analyze")
def test_the_readme_runs_as_written_and_systemd_has_nothing_to_say(run_readme):
    _, printed = run_readme()
    assert [line for line in printed.splitlines() if any(name in line for name in UNITS)] == []


@pytest.mark.usefixtures("systemd_analyze")
@pytest.mark.parametrize("mistake", ["RestratSec=1", "Restart=sometimes", "ExecStartPre=/no/such/program"])
def test_a_mistake_in_a_unit_would_have_been_found(tmp_path, mistake):
    text = (HERE / "peers.service").read_text().replace("RestartSec=1", mistake)
    wrong = tmp_path / "wrong.service"
    wrong.write_text(text.replace("/usr/local/bin/cfgsync", f"{Path(sys.executable).parent}/cfgsync"))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(wrong)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert any(word in said.stderr for word in mistake.split("=")), said


def test_no_unit_waives_a_protection():
    assert [name for name in UNITS if "insecure" in (HERE / name).read_text()] == []


def test_what_asking_again_does_not_mend_is_not_asked_again():
    for name in ("peers.service", "peers-watch.service"):
        assert unit(name)["Service"]["RestartPreventExitStatus"] == "2 4 5 6"


@pytest.fixture
def place(tmp_path):
    with Place(tmp_path / "place") as place:
        yield place


@pytest.fixture
def server(place, tmp_path) -> Server:
    """The server's unit, in the directory of its materializer."""
    tls = made_certificate(place, HERE / "README.md")
    loaded = unit("cfgsync-server.service")["Service"]["LoadCredential"]
    assert loaded == "server.key:/etc/cfgsync/tls/server.key"
    places = {"0.0.0.0": "127.0.0.1", "${STATE_DIRECTORY}": str(tmp_path)}
    places |= {"/etc/cfgsync/tls": str(tls), "${CREDENTIALS_DIRECTORY}": str(tls)}
    server = Here(place, places).serve([*command("cfgsync-server.service"), "--require-tokens"], HERE)
    make = ("token", "create", "--for", "node-*", "--uses", "3", "--server", https_url(server))
    assert place.run(*make, "--save", str(tmp_path / "join.token")).returncode == 0
    return server


@pytest.fixture
def start(place, server, tmp_path):
    """Start a unit's command as that of a node."""

    def start(name: str, node: str, *more: str, **environment: str) -> subprocess.Popen[str]:
        state = tmp_path / node
        (state / "etc").mkdir(parents=True, exist_ok=True)  # systemd makes both
        places = {
            "%l": node,
            "${STATE_DIRECTORY}": str(state),
            "${CONFIGURATION_DIRECTORY}": str(state / "etc"),
        }
        words = Here(place, places).words(command(name))
        env = {"CFGSYNC_SERVER": https_url(server), "CFGSYNC_METADATA": '{"port":8000}', **environment}
        files = {
            "CFGSYNC_TOKEN_FILE": tmp_path / "join.token",
            "CFGSYNC_CA_FILE": place.directory / "tls/ca.pem",
        }
        for word in unit(name)["Service"]["Environment"].split():
            variable, _, file = word.partition("=")
            assert Path(file).name == files[variable].name
            env[variable] = str(files[variable])
        process, _ = place.start(*words, *more, environment=env)
        return process

    return start


def test_the_commands_of_nodes_boot_three_of_them(start, tmp_path):
    nodes = [start("peers.service", node) for node in NODES]
    assert [node.wait(PATIENCE) for node in nodes] == [0, 0, 0]
    for node in NODES:
        assert (tmp_path / node / "files/current/peers.txt").read_text() == "127.0.0.1:8000\n" * 2


def test_systemd_is_told_when_the_files_are_in_place_and_a_node_starts_without_the_server(
    start, server, tmp_path
):
    said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = f"cfgsync-{uuid.uuid4()}"
    said.bind(f"\0{name}")
    said.settimeout(PATIENCE)
    with said:
        others = [start("peers.service", node) for node in NODES[1:]]
        node = start("peers-watch.service", NODES[0], NOTIFY_SOCKET=f"@{name}", WATCHDOG_USEC="30000000")
        told = b""
        while b"READY=1" not in told:
            told = said.recv(4096)
        assert (tmp_path / NODES[0] / "files/current/peers.txt").is_file()
        assert [other.wait(PATIENCE) for other in others] == [0, 0]
        node.terminate()
        assert node.wait(PATIENCE) == 0
    server.stop()
    again = start("peers-watch.service", NODES[0], "--wait", "0", "--json")
    line = again.stdout.readline()
    again.terminate()
    again.wait(PATIENCE)
    assert '"status":"degraded"' in line


def test_a_program_whose_unit_is_not_ours_gets_its_file(start, tmp_path):
    nodes = [start("cfgsync-fetch.service", node, "--json") for node in NODES]
    for process, node in zip(nodes, NODES, strict=True):
        code, report = ended(process)
        assert (code, report["files"]) == (0, [str(tmp_path / node / "etc/peers.txt")])
