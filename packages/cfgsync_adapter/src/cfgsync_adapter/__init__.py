"""The application's side of cfgsync: given the registrations, is it ready, and which files does each node get?"""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from cfgsync_artifacts import ArtifactFile as ArtifactFile
    from cfgsync_artifacts import ArtifactSet as ArtifactSet
    from cfgsync_core import Condition as Condition
    from cfgsync_core import DocumentsSnapshot as DocumentsSnapshot
    from cfgsync_core import NodeRegistration as NodeRegistration
    from cfgsync_core import NotReady as NotReady

    from .application.cached import CachedSnapshotMaterializer as CachedSnapshotMaterializer
    from .application.deployment import DeploymentAdapter as DeploymentAdapter
    from .application.deployment import DeploymentFailed as DeploymentFailed
    from .application.deployment import build_materialized_artifacts as build_materialized_artifacts
    from .application.directory_sink import DirectorySink as DirectorySink
    from .application.materializer import DocumentsMaterializer as DocumentsMaterializer
    from .application.materializer import MaterializationResult as MaterializationResult
    from .application.materializer import MaterializedArtifacts as MaterializedArtifacts
    from .application.materializer import MaterializedArtifactsSink as MaterializedArtifactsSink
    from .application.materializer import RegistrationSnapshotMaterializer as RegistrationSnapshotMaterializer
    from .application.materializer import SnapshotMaterializer as SnapshotMaterializer
    from .application.persisting import PersistingSnapshotMaterializer as PersistingSnapshotMaterializer
    from .application.quorum import Quorum as Quorum
    from .application.snapshot import RegistrationSnapshot as RegistrationSnapshot
    from .generations.generation import Generation as Generation
    from .rollout.policy import Rollout as Rollout
    from .runs.decider import Decider as Decider
    from .source import Late as Late
    from .source import RegistrationConfigSource as RegistrationConfigSource

__getattr__, __dir__, __all__ = door(__name__, __file__)
