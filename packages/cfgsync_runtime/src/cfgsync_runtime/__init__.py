"""Run cfgsync: serve a materializer or a bundle, fetch and write a node's files."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .access.signatures import Signer as Signer
    from .access.signatures import Verifier as Verifier
    from .access.tls import ServerCertificate as ServerCertificate
    from .backends.engines import open_backend as open_backend
    from .compose.fleet_server import serving_snapshot as serving_snapshot
    from .compose.program_server import serve_snapshot_cfgsync as serve_snapshot_cfgsync
    from .compose.source_server import serving_source as serving_source
    from .errors import InputError as InputError
    from .errors import MachineRefused as MachineRefused
    from .node.degraded_start import ConfigStartupMode as ConfigStartupMode
    from .node.outputs import ArtifactOutputMap as ArtifactOutputMap
    from .node.outputs import OutputDirectory as OutputDirectory
    from .node.programs import fetch_and_write_artifacts as fetch_and_write_artifacts

__getattr__, __dir__, __all__ = door(__name__, __file__)
