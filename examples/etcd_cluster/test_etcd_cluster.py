"""Three real etcd servers form a cluster, each started only by `cfgsync fetch … -- etcd …`."""

import os
import shutil
import warnings

import pytest

from cfgsync_adapter import MaterializedArtifacts, NodeRegistration, NotReady, RegistrationSnapshot

from .etcd_cluster import Ports, three_members


@pytest.fixture
def etcd():
    """The real program. Without it the test is skipped with a warning; where engines are required, it fails."""
    missing = [name for name in ("etcd", "etcdctl") if shutil.which(name) is None]
    if not missing:
        return
    line = f"NOT TESTED: no etcd cluster was formed, {' and '.join(missing)} not found (apt: etcd-server etcd-client)"
    if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1":
        pytest.fail(line)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(line, stacklevel=1)
    pytest.skip(line)


@pytest.mark.usefixtures("etcd")
def test_its_readme_runs_as_written(run_readme):
    (printed,) = run_readme()
    assert printed.count("is healthy") == 3
    assert printed.splitlines()[-1].endswith("all is ended and removed")


def members(*names: str) -> RegistrationSnapshot:
    ports = Ports(peer_port=2380, client_port=2379)
    return RegistrationSnapshot(
        NodeRegistration(name, ip).with_metadata(ports)
        for name, ip in zip(names, ("10.0.0.1", "fd00::2", "10.0.0.3"), strict=False)
    )


def test_two_members_are_not_a_cluster():
    assert isinstance(three_members().materialize_snapshot(members("a", "b")), NotReady)


def test_every_member_is_told_the_same_cluster_and_its_own_addresses():
    answer = three_members().materialize_snapshot(members("a", "b", "c"))
    assert isinstance(answer, MaterializedArtifacts)
    texts = {name: files[0].content for name, files in answer}
    for name, at in {"a": "10.0.0.1", "b": "[fd00::2]", "c": "10.0.0.3"}.items():
        assert f'name: "{name}"\n' in texts[name]
        assert f'listen-peer-urls: "http://{at}:2380"\n' in texts[name]
        assert f'advertise-client-urls: "http://{at}:2379"\n' in texts[name]
        cluster = "a=http://10.0.0.1:2380,b=http://[fd00::2]:2380,c=http://10.0.0.3:2380"
        assert f'initial-cluster: "{cluster}"\n' in texts[name]
