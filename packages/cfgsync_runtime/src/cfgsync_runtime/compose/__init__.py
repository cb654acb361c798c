"""The composer, the only place that puts a server together: it opens a store, a source, the wrappers and a server, and closes
them in the right order."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .fleet_server import fleet_routes as fleet_routes
    from .fleet_server import serving_snapshot as serving_snapshot
    from .program_server import serve_snapshot_cfgsync as serve_snapshot_cfgsync
    from .source_server import serving_source as serving_source

__getattr__, __dir__, __all__ = door(__name__, __file__)
