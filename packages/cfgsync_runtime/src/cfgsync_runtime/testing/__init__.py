"""For tests of an application or of an engine: servers and fleets in one line, the store's contract as functions."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .fixtures import BootFleet as BootFleet
    from .fixtures import ServeBundle as ServeBundle
    from .fixtures import ServeDocuments as ServeDocuments
    from .fixtures import ServeMaterializer as ServeMaterializer
    from .fleet import Fleet as Fleet
    from .fleet import FleetNode as FleetNode
    from .fleet import FleetNotBooted as FleetNotBooted
    from .fleet import NotInStep as NotInStep
    from .served import Served as Served
    from .served import serving_bundle as serving_bundle
    from .served import serving_materializer as serving_materializer
    from .served_documents import ServedDocuments as ServedDocuments
    from .served_documents import serving_config as serving_config

__getattr__, __dir__, __all__ = door(__name__, __file__)
