"""A server of any source, such as a static bundle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from cfgsync_core import (
    Backend,
    CfgsyncServerState,
    Engine,
    NodeConfigSource,
)
from cfgsync_core.server import Sign, init_with_node_routes
from cfgsync_core.wire import AcknowledgingSource, NodeDetails, StatusSource

from ..access.admin_socket import AdminPlace
from ..access.admission import Admission, readers_of
from ..access.identity import opened_identities
from ..access.insecure import (
    InsecureOption,
)
from ..listening import listening, load_http_server
from ..metrics.observed import Observed
from ..metrics.requests import RequestCounts
from ..operator.node_list import node_list_routes
from ..operator.token_routes import token_routes
from ..page.answering import page_routes
from .backend import notifying, opened
from .protection import protected, refuse_open

if TYPE_CHECKING:
    from cfgsync_core import HttpServer

    from ..access.tls import ServerCertificate


@asynccontextmanager
async def serving_source(
    source: NodeConfigSource,
    status: StatusSource | None = None,
    *,
    host: str | Sequence[str] = "127.0.0.1",
    port: int = 0,
    lacking: tuple[InsecureOption, ...] = (),
    legacy_init_with_node: bool = False,
    page: bool = True,
    admin_socket: AdminPlace = None,
    tls: ServerCertificate | None = None,
    trusted_proxies: Sequence[str] = (),
    page_contents: bool = False,
    title: str | None = None,
    acknowledging: AcknowledgingSource | None = None,
    details: NodeDetails | None = None,
    sign: Sign | None = None,
    store: Backend | Engine | str | None = None,
    anonymous: bool = False,
    on_fatal: Callable[[BaseException], None] | None = None,
) -> AsyncIterator[HttpServer]:
    """A server of any source, such as a static bundle, while the context lasts; `lacking`, `page`, `page_contents`, `title`,
    `tls`, `trusted_proxies` and `admin_socket` as for `serving_snapshot`. The others are the same source for what it can do:
    without `status` there is no `/status`, without `acknowledging` no `/ack` (which names digests); `details` are what nodes
    have registered and are given. `sign` gives the signature of a node's files, as `BundleConfigSource.signature` does. With
    a `store`, tokens are required, and `anonymous` is as for `serving_snapshot`; without one, all nodes are served."""
    refuse_open(host, lacking, has_tls=tls is not None, has_rule=store is not None)
    if status is not None:
        status = protected(status, lacking, {}, tls)
    async with AsyncExitStack() as stack:
        tokens = identities = None
        if store is not None:
            backend = await stack.enter_async_context(opened(store, on_fatal))
            hinting = await stack.enter_async_context(notifying(backend))
            identified = opened_identities(hinting, backend.hints, anonymous=anonymous, requires_tokens=True)
            tokens, identities = await stack.enter_async_context(identified)
        evict = None if identities is None else identities.free
        state = CfgsyncServerState(
            source, status, acknowledging=acknowledging, has_generations=False, evict=evict, sign=sign
        )
        routes = state.routes()
        if status is not None and details is not None:
            routes += node_list_routes(status, details)
        if tokens is not None:
            routes += token_routes(tokens, tls)
        if page and status is not None:
            routes += page_routes(status, details=details, title=title, tokens=tokens)
        if legacy_init_with_node:
            routes += init_with_node_routes(routes)
        readers = readers_of(host, lacking, store is not None)
        access = RequestCounts(Admission(readers, identities, page_contents, tokens=tokens))
        observed = Observed(access, status=status, lacking=lacking, tls=tls)
        async with listening(
            await load_http_server(), routes, observed, host, port, admin_socket, trusted_proxies
        ) as server:
            yield server
