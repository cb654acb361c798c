"""Run cfgsync: serve a materializer or a bundle, fetch and write a node's files."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .backends import open_store as open_store
    from .errors import InputError as InputError
    from .errors import MachineRefused as MachineRefused
    from .serve import serve_snapshot_cfgsync as serve_snapshot_cfgsync
    from .serve import serving_snapshot as serving_snapshot
    from .serve import serving_source as serving_source
else:
    __getattr__, __dir__, __all__ = door(
        __name__,
        {
            "backends": "open_store",
            "errors": "InputError MachineRefused",
            "serve": "serve_snapshot_cfgsync serving_snapshot serving_source",
        },
    )
