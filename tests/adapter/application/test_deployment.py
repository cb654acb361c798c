"""The secondary helper: a deployment that is known ahead, one `/config.yaml` a node."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cfgsync_adapter import DeploymentFailed, build_materialized_artifacts


class Adapter:
    def nodes(self, deployment: dict[str, int]) -> Sequence[str]:
        return list(deployment)

    def node_identifier(self, index: int, node: str) -> str:
        return f"{node}-{index}"

    def build_node_config(self, deployment: dict[str, int], node: str) -> dict[str, object]:
        return {"port": deployment[node]}

    def rewrite_for_hostnames(
        self, deployment: dict[str, int], index: int, hostnames: Sequence[str], config: dict[str, object]
    ) -> dict[str, object]:
        return {**config, "host": hostnames[index]}

    def serialize_node_config(self, config: dict[str, object]) -> str:
        if config["port"] == 0:
            raise ValueError("port 0")
        return f"{config}\n"


def test_every_node_is_built_rewritten_and_serialised_into_one_file() -> None:
    made = build_materialized_artifacts(Adapter(), {"x": 1, "y": 2}, ["hx", "hy"])
    assert {name: [(f.path, f.content) for f in files] for name, files in made} == {
        "x-0": [("/config.yaml", "{'port': 1, 'host': 'hx'}\n")],
        "y-1": [("/config.yaml", "{'port': 2, 'host': 'hy'}\n")],
    }


def test_hostnames_that_do_not_match_are_refused_with_both_counts() -> None:
    with pytest.raises(DeploymentFailed, match=r"cfgsync hostnames mismatch \(nodes=2, hostnames=1\)"):
        build_materialized_artifacts(Adapter(), {"x": 1, "y": 2}, ["hx"])


def test_an_adapter_that_raises_is_named() -> None:
    with pytest.raises(DeploymentFailed, match="cfgsync adapter failed: port 0"):
        build_materialized_artifacts(Adapter(), {"x": 0}, ["hx"])
