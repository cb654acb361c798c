"""The application's side of cfgsync: given the registrations, is it ready, and which files does each node get?"""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from cfgsync_artifacts import ArtifactFile as ArtifactFile
    from cfgsync_artifacts import ArtifactSet as ArtifactSet
    from cfgsync_core import Condition as Condition
    from cfgsync_core import NodeRegistration as NodeRegistration
    from cfgsync_core import NotReady as NotReady

    from .application.cached import CachedSnapshotMaterializer as CachedSnapshotMaterializer
    from .application.deployment import DeploymentAdapter as DeploymentAdapter
    from .application.deployment import DeploymentFailed as DeploymentFailed
    from .application.deployment import build_materialized_artifacts as build_materialized_artifacts
    from .application.directory_sink import DirectorySink as DirectorySink
    from .application.materializer import MaterializationResult as MaterializationResult
    from .application.materializer import MaterializedArtifacts as MaterializedArtifacts
    from .application.materializer import MaterializedArtifactsSink as MaterializedArtifactsSink
    from .application.materializer import RegistrationSnapshotMaterializer as RegistrationSnapshotMaterializer
    from .application.persisting import PersistingSnapshotMaterializer as PersistingSnapshotMaterializer
    from .application.quorum import Quorum as Quorum
    from .application.snapshot import RegistrationSnapshot as RegistrationSnapshot
    from .generations.generation import Generation as Generation
    from .generations.generation import PayloadTooLarge as PayloadTooLarge
    from .generations.generation import Prepared as Prepared
    from .generations.generation import Source as Source
    from .generations.generation import checked as checked
    from .nodes.last_seen import Seen as Seen
    from .nodes.membership import Departure as Departure
    from .runs.by_operator import Renewal as Renewal
    from .runs.decider import Decider as Decider
    from .runs.decider import Decision as Decision
    from .runs.decider import raised_at as raised_at
    from .runs.tally import RunOutcome as RunOutcome
    from .runs.tally import RunTally as RunTally
    from .source import Late as Late
    from .source import RegistrationConfigSource as RegistrationConfigSource
    from .status.contents import DiffPage as DiffPage
    from .status.contents import FileChange as FileChange
    from .status.contents import NodeChange as NodeChange
    from .status.contents import ToldFile as ToldFile
    from .status.contents import ToldGeneration as ToldGeneration
    from .status.contents import ToldNode as ToldNode
    from .status.contents import ToldPage as ToldPage
    from .status.contents import changes_of as changes_of
    from .status.contents import tell as tell
    from .status.contents import tell_difference as tell_difference
    from .status.contents import tell_generation as tell_generation
    from .status.contents import tell_head as tell_head
    from .status.contents import tell_node as tell_node
    from .status.contents import tell_prepared as tell_prepared
    from .status.offline import Look as Look
    from .status.offline import look as look

__getattr__, __dir__, __all__ = door(__name__, __file__)
