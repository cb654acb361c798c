"""The compose file is checked against its published schema, and its commands run on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from examples.here import Here, https_url
from tests.processes import PATIENCE, Place, eventually

HERE = Path(__file__).parent


@pytest.fixture
def compose():
    return yaml.safe_load((HERE / "compose.yaml").read_text())


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    """Check a file with the schema of compose-spec, which is part of the checker."""
    command = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=PATIENCE)


def test_the_file_is_what_the_published_schema_says():
    result = checked(HERE / "compose.yaml")
    assert result.returncode == 0, result.stdout


def test_a_misspelt_word_would_have_been_found(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((HERE / "compose.yaml").read_text().replace("restart:", "restrat:", 1))
    result = checked(wrong)
    assert result.returncode == 1
    assert "restrat" in result.stdout


def test_the_server_has_tls_and_tokens_and_its_key_and_the_ca_s_stay_where_they_belong(compose):
    server = compose["services"]["cfgsync"]
    assert [word for word in server["command"] if "insecure" in word] == []
    assert "./secrets/server:/run/tls:ro" in server["volumes"]
    nodes = [service for name, service in compose["services"].items() if name != "cfgsync"]
    assert [node["volumes"] for node in nodes] == [["./secrets/ca:/run/ca:ro"]] * len(nodes)
    assert "authority" not in (HERE / "compose.yaml").read_text()
    assert [name for name, service in compose["services"].items() if "ports" in service] == []


def test_every_mounted_file_is_there_and_every_secret_is_a_nodes_own(compose):
    nodes = {name: service for name, service in compose["services"].items() if name != "cfgsync"}
    assert [service["secrets"] for service in nodes.values()] == [
        [{"source": name, "target": "node"}, "join"] for name in nodes
    ]
    assert list(compose["secrets"]) == ["join", *nodes]
    server = compose["services"]["cfgsync"]
    mounted = [volume.partition(":")[0] for volume in server["volumes"] if volume.startswith("./peers")]
    assert [name for name in mounted if not (HERE / name).is_file()] == []
    build = server["build"]
    assert (HERE / build["context"] / build["dockerfile"]).is_file()


def test_the_readme_runs_as_written(run_readme):
    made, checked_again = run_readme()
    listed = ["server/server.key", "server/server.pem", "node-1", "node-2", "node-3"]
    assert made.splitlines()[-5:] == [f"600 secrets/{name}" for name in listed]
    assert "ok" in checked_again


def test_the_commands_of_its_containers_boot_three_nodes_which_keep_their_names(compose, tmp_path):
    services = compose["services"]
    names = [name for name in services if name != "cfgsync"]
    made = [HERE / "make-secrets", *names, "stranger"]
    with Place(tmp_path / "place") as place:
        path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        subprocess.run(made, cwd=tmp_path, check=True, env=place.environment(path))
        secrets = {"/run/tls": str(tmp_path / "secrets/server"), "/run/ca": str(tmp_path / "secrets/ca")}
        here = Here(place, {"--host=::": "--host=127.0.0.1", "/var/lib/cfgsync": str(tmp_path), **secrets})
        server = here.serve([*services["cfgsync"]["command"], "--require-tokens"], HERE)
        url = https_url(server)
        make = ("token", "create", "--for", "node-*", "--uses", "3", "--server", url)
        token = place.run(*make, "--save", str(tmp_path / "secrets/join"))
        assert token.returncode == 0, token.stderr

        _, *checking = services["cfgsync"]["healthcheck"]["test"]
        words = [here.also({"https://localhost:4400": url}).word(word) for word in checking]
        healthy = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
        assert (words[0], healthy.returncode) == ("python", 0), healthy.stderr

        def boot(name: str, secret: str, srv: Path) -> subprocess.Popen[str]:
            places = {"https://cfgsync:4400": url, "/run/secrets/node": secret, "/srv": str(srv)}
            places["/run/secrets/join"] = str(tmp_path / compose["secrets"]["join"]["file"])
            return here.also(places).start(services[name]["command"], services[name]["environment"])

        def mounted(name: str) -> str:
            of, _ = services[name]["secrets"]
            return str(tmp_path / compose["secrets"][of["source"]]["file"])

        nodes = [boot(name, mounted(name), tmp_path / name) for name in names]
        assert [node.wait(PATIENCE) for node in nodes] == [0, 0, 0]
        for name in names:
            peers = (tmp_path / name / "peers/current/peers.txt").read_text().splitlines()
            assert peers == ["127.0.0.1:8000"] * 2

        # the script renews the certificate, and the server takes it by itself
        subprocess.run(made, cwd=tmp_path, check=True, env=place.environment(path))
        eventually(lambda: "the certificate is read again" in server.log)
        # a new container has no files and no state, but has its secret
        assert boot("node-1", mounted("node-1"), tmp_path / "anew").wait(PATIENCE) == 0
        # without it the server refuses the name
        stranger = str(tmp_path / "secrets/stranger")
        assert boot("node-1", stranger, tmp_path / "other").wait(PATIENCE) == 5
