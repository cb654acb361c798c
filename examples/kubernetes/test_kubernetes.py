"""The manifests are checked against Kubernetes' published schemas, and their commands run on this machine."""

import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from examples.here import Here, answered, https_url, made_certificate
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
    assert len(run_readme()) == 3


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


def test_the_server_has_tls_and_tokens_and_only_the_fleet_and_prometheus_reach_it(manifests):
    server = manifests["StatefulSet/cfgsync"]["spec"]["template"]
    (container,) = server["spec"]["containers"]
    assert [word for word in container["args"] if "insecure" in word] == []
    assert [container[probe]["httpGet"]["scheme"] for probe in ("livenessProbe", "readinessProbe")] == [
        "HTTPS"
    ] * 2
    policy = manifests["NetworkPolicy/cfgsync"]["spec"]
    assert policy["podSelector"]["matchLabels"] == server["metadata"]["labels"]
    (rule,) = policy["ingress"]
    peers = manifests["StatefulSet/peers"]["spec"]["template"]["metadata"]["labels"]
    pods, prometheus = rule["from"]
    assert pods == {"podSelector": {"matchLabels": peers}}
    assert set(prometheus) == {"namespaceSelector"}


def test_the_commands_of_its_pods_boot_three_of_them(manifests, tmp_path):
    (tmp_path / "peers.py").write_text(manifests["ConfigMap/cfgsync"]["data"]["peers.py"])
    container = manifests["StatefulSet/cfgsync"]["spec"]["template"]["spec"]["containers"][0]
    fleet = manifests["StatefulSet/peers"]["spec"]
    fetch = fleet["template"]["spec"]["initContainers"][0]
    held = secrets()["stringData"]
    with Place(tmp_path / "place") as place:
        authority = made_certificate(place, HERE / "README.md")
        mounted = {
            "/run/tls/tls.crt": str(authority / "server.pem"),
            "/run/tls/tls.key": str(authority / "server.key"),
            "/run/ca": str(authority),
        }
        here = Here(place, {"--host=::": "--host=127.0.0.1", "/var/lib/cfgsync": str(tmp_path), **mounted})
        server = here.serve([*container["args"], "--require-tokens"], tmp_path)
        url = https_url(server)
        make = ("token", "create", "--for", "peers-*", "--uses", "3", "--server", url)
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
                    "https://fleet-config:4400": url,
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
        probes = [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]
        for path in (*probes, "/metrics"):
            assert answered(server, path, authority / "ca.pem") == 200
        assert answered(server, "/status", authority / "ca.pem") == 401
