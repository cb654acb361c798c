"""What is said over HTTP: bodies, headers and statuses, encoded and decoded once, with every limit."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .status import FleetState as FleetState
    from .status import State as State
    from .status import fleet_state as fleet_state
    from .status import node_state as node_state

__getattr__, __dir__, __all__ = door(__name__, __file__)
