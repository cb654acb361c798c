"""The routes of one source."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..wire.source import AcknowledgingSource, FleetSource, NodeConfigSource, PresenceSource
from ..wire.status import StatusSource
from .node_routes import Sign, ack_route, node_route, register_route
from .route import Route
from .status_routes import evict_route, health_routes, status_routes


class CfgsyncServerState:
    """A source as routes: `HttpServer(CfgsyncServerState(source, status=source).routes())`.

    Each further argument is something that the source can do, and adds its routes: report on the fleet (`status`), record
    acknowledgements (`acknowledging`), keep what nodes promise (`presence`), make a node leave (`evict`). Without
    `has_generations` an acknowledgement names only a digest, as for a static source. `fleet` is the source if its nodes may take
    turns, or other servers write to its store. `sign` signs each node's files.
    """

    def __init__(
        self,
        source: NodeConfigSource,
        status: StatusSource | None = None,
        *,
        fleet: FleetSource | None = None,
        acknowledging: AcknowledgingSource | None = None,
        presence: PresenceSource | None = None,
        has_generations: bool = True,
        evict: Callable[[str], Awaitable[bool]] | None = None,
        sign: Sign | None = None,
    ) -> None:
        self._routes = [register_route(source, presence), node_route(source, fleet, presence, sign)]
        if acknowledging is not None:
            self._routes.append(ack_route(acknowledging, has_generations=has_generations))
        self._routes += (
            health_routes() if status is None else health_routes(status.ping) + status_routes(status)
        )
        if evict is not None:
            self._routes.append(evict_route(evict))

    def routes(self) -> list[Route]:
        """The node's routes, health, and those of what the source can do."""
        return [*self._routes]
