"""HTTP in: routes, handlers, connections, and the sources that serve a fixed bundle."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .access import NO_SOCKET as NO_SOCKET
    from .access import Access as Access
    from .access import LocalOperators as LocalOperators
    from .access import is_own_name as is_own_name
    from .access import peer_user as peer_user
    from .access import why_no_operator as why_no_operator
    from .access import why_not_here as why_not_here
    from .bundle import spell_path as spell_path
    from .node_routes import Sign as Sign
    from .node_routes import init_with_node_routes as init_with_node_routes
    from .openapi import documented as documented
    from .route import ANYONE as ANYONE
    from .route import CONTENTS as CONTENTS
    from .route import OPERATOR as OPERATOR
    from .route import READER as READER
    from .route import Body as Body
    from .route import Call as Call
    from .route import Handler as Handler
    from .route import Operation as Operation
    from .route import Principal as Principal
    from .route import Reply as Reply
    from .route import Response as Response
    from .route import RightEnded as RightEnded
    from .route import Route as Route
    from .route import WebSocket as WebSocket
    from .route import Write as Write
    from .route import failure as failure
    from .route import page_of as page_of
    from .route import refusal as refusal
    from .status_routes import health_routes as health_routes
    from .watch_stream import SSE_HEADERS as SSE_HEADERS
    from .watch_stream import ChangingSource as ChangingSource
    from .watch_stream import WatchStreams as WatchStreams

__getattr__, __dir__, __all__ = door(__name__, __file__)
