"""The manifests are checked against Kubernetes' published schemas, and their commands run on this machine."""

import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from examples.here import Here
from tests.processes import PATIENCE, Place

HERE = Path(__file__).parent
VERSION = "1.33"


@pytest.fixture
def manifests():
    """By kind and name."""
    documents = yaml.safe_load_all((HERE / "manifests.yaml").read_text())
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in documents}


def secrets() -> dict[str, object]:
    made = subprocess.run([HERE / "make-secret", "3"], check=True, capture_output=True, text=True).stdout
    return yaml.safe_load(made)


def test_every_document_is_what_the_published_schema_says(manifests):
    for document in (*manifests.values(), secrets()):
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_a_misspelt_word_would_have_been_found(manifests):
    peers = manifests["StatefulSet/peers"]
    peers["spec"]["podManagmentPolicy"] = peers["spec"].pop("podManagementPolicy")
    with pytest.raises(kubernetes_validate.ValidationError, match="podManagmentPolicy"):
        kubernetes_validate.validate(peers, VERSION, strict=True)


def test_the_readme_runs_as_written(run_readme):
    assert len(run_readme()) == 2


def test_pods_that_wait_for_each_other_are_started_at_once(manifests):
    assert manifests["StatefulSet/peers"]["spec"]["podManagementPolicy"] == "Parallel"


def test_what_is_mounted_is_there_and_a_pod_gets_its_own_secret_only(manifests):
    fleet = {name: one for name, one in manifests.items() if name.startswith("StatefulSet/")}
    for name, one in fleet.items():
        pod = one["spec"]["template"]["spec"]
        held = {volume["name"] for volume in pod["volumes"]}
        held |= {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
        containers = [*pod.get("initContainers", []), *pod["containers"]]
        mounts = [mount for container in containers for mount in container["volumeMounts"]]
        assert {mount["name"] for mount in mounts} == held, name
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in containers)
    pod = fleet["StatefulSet/peers"]["spec"]["template"]["spec"]
    (mounted,) = [mount for mount in pod["initContainers"][0]["volumeMounts"] if mount["name"] == "secrets"]
    assert mounted["subPathExpr"] == "$(CFGSYNC_ID)"
    assert set(secrets()["stringData"]) == {"peers-0", "peers-1", "peers-2"}


def test_only_the_fleet_reaches_a_server_without_tls_and_pods_join_with_a_token(manifests):
    server = manifests["StatefulSet/cfgsync"]["spec"]["template"]
    assert "--insecure-no-tls" in server["spec"]["containers"][0]["args"]
    assert "--insecure-no-auth" not in server["spec"]["containers"][0]["args"]
    policy = manifests["NetworkPolicy/cfgsync"]["spec"]
    assert policy["podSelector"]["matchLabels"] == server["metadata"]["labels"]
    (rule,) = policy["ingress"]
    peers = manifests["StatefulSet/peers"]["spec"]["template"]["metadata"]["labels"]
    assert rule["from"] == [{"podSelector": {"matchLabels": peers}}]


def test_the_commands_of_its_pods_boot_three_of_them(manifests, tmp_path):
    (tmp_path / "peers.py").write_text(manifests["ConfigMap/cfgsync"]["data"]["peers.py"])
    container = manifests["StatefulSet/cfgsync"]["spec"]["template"]["spec"]["containers"][0]
    fleet = manifests["StatefulSet/peers"]["spec"]
    fetch = fleet["template"]["spec"]["initContainers"][0]
    held = secrets()["stringData"]
    with Place(tmp_path / "place") as place:
        here = Here(place, {"--host=::": "--host=127.0.0.1", "/var/lib/cfgsync": str(tmp_path)})
        server = here.serve([*container["args"], "--require-tokens"], tmp_path)
        make = ("token", "create", "--for", "peers-*", "--uses", "3", "--server", server.url)
        assert place.run(*make, "--save", str(tmp_path / "token")).returncode == 0
        pods = []
        for number in range(fleet["replicas"]):
            name, at = f"peers-{number}", f"10.1.0.{number}"
            (tmp_path / f"secret-{number}").write_text(held[name])
            fields = {"metadata.name": name, "status.podIP": at}
            environment = {
                one["name"]: one["value"]
                if "value" in one
                else fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
                for one in fetch["env"]
            }
            in_its_pod = here.also(
                {
                    "http://fleet-config:4400": server.url,
                    "/config": str(tmp_path / name),
                    "/state": str(tmp_path / f"state-{number}"),
                    "/run/cfgsync/secret": str(tmp_path / f"secret-{number}"),
                    "/run/join/token": str(tmp_path / "token"),
                }
            )
            pods.append(in_its_pod.start(fetch["args"], environment))
        assert [pod.wait(PATIENCE) for pod in pods] == [0, 0, 0]
        peers = (tmp_path / "peers-1/current/peers.txt").read_text().splitlines()
        assert peers == ["10.1.0.0:8000", "10.1.0.2:8000"]
        for path in ("/livez", "/readyz"):
            assert server.ask("GET", path).status == 200
