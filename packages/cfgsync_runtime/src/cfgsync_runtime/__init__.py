"""Run cfgsync: serve a materializer or a bundle, fetch and write a node's files."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .backends import open_store as open_store
    from .errors import InputError as InputError
    from .errors import MachineRefused as MachineRefused
    from .outputs import ArtifactOutputMap as ArtifactOutputMap
    from .outputs import OutputDirectory as OutputDirectory
    from .outputs import Written as Written
    from .programs import fetch_and_write_artifacts as fetch_and_write_artifacts
    from .serve import serve_snapshot_cfgsync as serve_snapshot_cfgsync
    from .serve import serving_snapshot as serving_snapshot
    from .serve import serving_source as serving_source
    from .startup import ConfigStartupMode as ConfigStartupMode

__getattr__, __dir__, __all__ = door(__name__, __file__)
