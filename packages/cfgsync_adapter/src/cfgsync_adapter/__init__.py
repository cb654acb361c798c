"""The application's side of cfgsync: given the registrations, is it ready, and which files does each node get?"""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from cfgsync_artifacts import ArtifactFile as ArtifactFile
    from cfgsync_artifacts import ArtifactSet as ArtifactSet
    from cfgsync_core import Condition as Condition
    from cfgsync_core import NodeRegistration as NodeRegistration
    from cfgsync_core import NotReady as NotReady

    from .by_hand import Renewal as Renewal
    from .cached import CachedSnapshotMaterializer as CachedSnapshotMaterializer
    from .deciding import Decider as Decider
    from .deciding import Decision as Decision
    from .deciding import raised_at as raised_at
    from .deployment import DeploymentAdapter as DeploymentAdapter
    from .deployment import DeploymentFailed as DeploymentFailed
    from .deployment import build_materialized_artifacts as build_materialized_artifacts
    from .directory import DirectorySink as DirectorySink
    from .generation import Generation as Generation
    from .generation import PayloadTooLarge as PayloadTooLarge
    from .generation import Prepared as Prepared
    from .generation import Source as Source
    from .generation import checked as checked
    from .looking import Look as Look
    from .looking import look as look
    from .materializer import MaterializationResult as MaterializationResult
    from .materializer import MaterializedArtifacts as MaterializedArtifacts
    from .materializer import MaterializedArtifactsSink as MaterializedArtifactsSink
    from .materializer import RegistrationSnapshotMaterializer as RegistrationSnapshotMaterializer
    from .membership import Departure as Departure
    from .persisting import PersistingSnapshotMaterializer as PersistingSnapshotMaterializer
    from .quorum import Quorum as Quorum
    from .seen import Seen as Seen
    from .snapshot import RegistrationSnapshot as RegistrationSnapshot
    from .source import Late as Late
    from .source import RegistrationConfigSource as RegistrationConfigSource
    from .tally import RunOutcome as RunOutcome
    from .tally import RunTally as RunTally
    from .telling import DiffPage as DiffPage
    from .telling import FileChange as FileChange
    from .telling import NodeChange as NodeChange
    from .telling import ToldFile as ToldFile
    from .telling import ToldGeneration as ToldGeneration
    from .telling import ToldNode as ToldNode
    from .telling import ToldPage as ToldPage
    from .telling import changes_of as changes_of
    from .telling import tell as tell
    from .telling import tell_difference as tell_difference
    from .telling import tell_generation as tell_generation
    from .telling import tell_head as tell_head
    from .telling import tell_node as tell_node
    from .telling import tell_prepared as tell_prepared

__getattr__, __dir__, __all__ = door(__name__, __file__)
