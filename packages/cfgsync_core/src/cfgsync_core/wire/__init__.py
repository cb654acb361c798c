"""What is sent over HTTP: bodies, headers and statuses, encoded and decoded once, with every limit."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .limits import MAX_BODY_BYTES as MAX_BODY_BYTES
    from .limits import MAX_CONDITIONS as MAX_CONDITIONS
    from .limits import MAX_FILE_BYTES as MAX_FILE_BYTES
    from .limits import MAX_FILES as MAX_FILES
    from .limits import MAX_NAMES as MAX_NAMES
    from .limits import MAX_NOT_READY_CHARACTERS as MAX_NOT_READY_CHARACTERS
    from .limits import MAX_PAYLOAD_BYTES as MAX_PAYLOAD_BYTES
    from .limits import MAX_REASON as MAX_REASON
    from .limits import MAX_REPLACEMENT_BYTES as MAX_REPLACEMENT_BYTES
    from .status import FleetState as FleetState
    from .status import State as State
    from .status import fleet_state as fleet_state
    from .status import node_state as node_state

__getattr__, __dir__, __all__ = door(__name__, __file__)
