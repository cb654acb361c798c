"""The artifacts of a deployment that is known in advance, one `/config.yaml` for each node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from cfgsync_artifacts import ArtifactFile, ArtifactSet, CfgsyncError

from .materializer import MaterializedArtifacts

Deployment = TypeVar("Deployment", contravariant=True)
Node = TypeVar("Node")
Config = TypeVar("Config")

CONFIG_PATH = "/config.yaml"


class DeploymentFailed(CfgsyncError):
    """The adapter raised an error, or the deployment does not fit the host names; see the message."""


class DeploymentAdapter(Protocol[Deployment, Node, Config]):
    """How one kind of deployment becomes configuration files. From the Rust cfgsync's `DeploymentAdapter`."""

    def nodes(self, deployment: Deployment) -> Sequence[Node]:
        """The nodes in order."""

    def node_identifier(self, index: int, node: Node) -> str:
        """The identifier under which this node will register."""

    def build_node_config(self, deployment: Deployment, node: Node) -> Config:
        """This node's configuration."""

    def rewrite_for_hostnames(
        self, deployment: Deployment, index: int, hostnames: Sequence[str], config: Config
    ) -> Config:
        """The configuration with every node's real host name in it."""

    def serialize_node_config(self, config: Config) -> str:
        """The text of `/config.yaml`."""


def build_materialized_artifacts(
    adapter: DeploymentAdapter[Deployment, Node, Config], deployment: Deployment, hostnames: Sequence[str]
) -> MaterializedArtifacts:
    """Build, rewrite and serialise every node. Raises `DeploymentFailed`."""
    nodes = adapter.nodes(deployment)
    if len(nodes) != len(hostnames):
        raise DeploymentFailed(f"cfgsync hostnames mismatch (nodes={len(nodes)}, hostnames={len(hostnames)})")
    made: list[tuple[str, ArtifactSet]] = []
    for index, node in enumerate(nodes):
        try:
            config = adapter.build_node_config(deployment, node)
            config = adapter.rewrite_for_hostnames(deployment, index, hostnames, config)
            file = ArtifactFile(CONFIG_PATH, adapter.serialize_node_config(config))
            made.append((adapter.node_identifier(index, node), ArtifactSet([file])))
        except Exception as error:
            raise DeploymentFailed(f"cfgsync adapter failed: {error}") from error
    return MaterializedArtifacts.from_nodes(made)
