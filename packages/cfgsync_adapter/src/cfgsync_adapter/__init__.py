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
    from .nodes.last_seen import LastSeen as LastSeen
    from .nodes.membership import Departure as Departure
    from .runs.by_operator import Renewal as Renewal
    from .runs.decider import Decider as Decider
    from .runs.decider import Decision as Decision
    from .runs.decider import raised_at as raised_at
    from .runs.run_log import RunCounts as RunCounts
    from .runs.run_log import RunOutcome as RunOutcome
    from .source import Late as Late
    from .source import RegistrationConfigSource as RegistrationConfigSource
    from .status.contents import DiffPage as DiffPage
    from .status.contents import FileChange as FileChange
    from .status.contents import FileSummary as FileSummary
    from .status.contents import GenerationPage as GenerationPage
    from .status.contents import GenerationSummary as GenerationSummary
    from .status.contents import NodeChange as NodeChange
    from .status.contents import NodeContents as NodeContents
    from .status.contents import changes_of as changes_of
    from .status.contents import difference_page as difference_page
    from .status.contents import generation_page as generation_page
    from .status.contents import generation_summaries as generation_summaries
    from .status.contents import node_contents as node_contents
    from .status.contents import prepared_contents as prepared_contents
    from .status.contents import summarize as summarize
    from .status.contents import summarize_head as summarize_head
    from .status.offline import OfflineFleet as OfflineFleet
    from .status.offline import read_offline as read_offline

__getattr__, __dir__, __all__ = door(__name__, __file__)
