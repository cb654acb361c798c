"""The composer: opens a store, a source, the wrappers and a server, and closes them in the right order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from cfgsync_adapter import (
    Decider,
    Late,
    MaterializedArtifactsSink,
    RegistrationConfigSource,
    RegistrationSnapshotMaterializer,
)
from cfgsync_core import Backend, CfgsyncServerState, ChangeHints, Engine, MemoryHints, NodeConfigSource
from cfgsync_core.log_events import event
from cfgsync_core.server import Route, WatchStreams, init_with_node_routes
from cfgsync_core.store import NotifyingStore
from cfgsync_core.text import counted
from cfgsync_core.wire import AcknowledgingSource, NodeDetails, StatusSource

from .access.admin_socket import AdminPlace
from .access.admission import Admission, readers_of
from .access.identity import Identities
from .access.insecure import InsecureOption, InsecureStatus, exposes_errors
from .backends.engines import opened_backend
from .document_server import documents_in
from .listening import listening, load_http_server
from .metrics.observed import Observed
from .metrics.requests import RequestCounts
from .operator.node_list import node_list_routes
from .operator.operator_routes import operator_routes
from .page.answering import page_routes

if TYPE_CHECKING:
    from cfgsync_core import HttpServer

CHANGED_PROGRAM = "; has the program changed? `cfgsync generation renew`, or serve with another --revision"
"""Logged with a generation from before the start: a changed program takes effect only with another revision."""

log = logging.getLogger("cfgsync")

FIRST_VERDICT_SECONDS = 2.0


@asynccontextmanager
async def serving_snapshot(
    materializer: RegistrationSnapshotMaterializer | None = None,
    *,
    decider: Decider | None = None,
    host: str | Sequence[str] = "127.0.0.1",
    port: int = 0,
    store: Backend | Engine | str = "memory:",
    late: Late = "follow",
    revision: str | None = None,
    sink: MaterializedArtifactsSink | None = None,
    run_timeout: float = 60.0,
    shrink_guard: float = 50.0,
    ttl: float | None = None,
    expose_errors: bool = False,
    anonymous: bool = True,
    rebind: bool = False,
    lacking: tuple[InsecureOption, ...] = (),
    legacy_init_with_node: bool = False,
    page: bool = True,
    page_contents: bool = False,
    legacy_replace: bool = False,
    documents: bool = False,
    open_documents: bool = False,
    admin_socket: AdminPlace = None,
    title: str | None = None,
    hints: ChangeHints | None = None,
    interval: float = 15.0,
    on_fatal: Callable[[BaseException], None] | None = None,
    on_open: Callable[[RegistrationConfigSource], object] = lambda _: None,
) -> AsyncIterator[HttpServer]:
    """A server of `materializer`, or of a `decider` that calls one elsewhere, while the context lasts.

    `port` 0 takes a free port, see `server.url`. `anonymous` accepts nodes without a secret, `rebind` gives a name to a
    node with another secret; `lacking` are the protections that the operator switched off, which the log and `/status` show.
    With `legacy_init_with_node`, `/node` is also `/init-with-node`, for the oldest clients.
    A node that promised to keep in touch, and sends nothing for `ttl` seconds, leaves (None: no node does).
    Nodes and `/status` get type and place of a failure; with `expose_errors` its words too, on loopback only.
    With `hints` (default: the backend's own), other servers share the store: this server sends them hints, and reads what
    they commit, at each of their hints and every `interval` seconds.
    `on_open` gets the source before it serves. With `page`, `GET /` shows the fleet under `title` (default: this host's name);
    off loopback it refuses unless `lacking` has "no-auth". `admin_socket` is the path of a Unix socket for `cfgsync node` and
    `cfgsync generation`; True is where they look for it. On loopback only: `page_contents` shows files on the page,
    `legacy_replace` takes `/node/replace` over TCP. `documents` serves config documents from the same store, and on loopback
    `open_documents` lets every program of the machine read and write them.
    `store` is a URL (opened and closed here), an open backend, or a store that is its own `StoreAdmin`. Raises
    `StoreRefused`; `MachineRefused` for a port that is in use. Leaving answers every waiting node 503 with `Retry-After`.
    """
    async with AsyncExitStack() as stack:
        loading = asyncio.create_task(load_http_server(), name="cfgsync-load-http")
        stack.callback(loading.cancel)
        backend = await stack.enter_async_context(opened_backend(store, on_fatal))
        hints = backend.hints if hints is None else hints
        hinting = await stack.enter_async_context(
            NotifyingStore(backend.store, MemoryHints() if hints is None else hints, backend.events)
        )
        identities = Identities(hinting, anonymous=anonymous, rebind=rebind, hints=hints, interval=interval)
        source = RegistrationConfigSource(
            materializer,
            decider=decider,
            store=hinting,
            admin=backend.admin,
            late=late,
            revision=revision,
            sink=sink,
            run_timeout=run_timeout,
            shrink_guard=shrink_guard,
            ttl=ttl,
            expose_errors=exposes_errors(expose_errors, host),
            before_leaving=identities.release,
            hints=hints,
            interval=interval,
        )
        identities.lapsed = source.lapse
        stack.push_async_callback(identities.close)
        await identities.open()
        await stack.enter_async_context(source)
        on_open(source)
        remembered = source.fleet(0, "")
        # the first node gets the files of a changed materializer
        await source.settled(FIRST_VERDICT_SECONDS)
        now = source.fleet(0, "")
        if remembered.registered:
            generation = "none" if remembered.generation is None else remembered.generation.rpartition(".")[2]
            log.info(
                "remembered from before: %s, generation %s%s",
                counted(remembered.registered, "node"),
                generation,
                CHANGED_PROGRAM if generation != "none" and remembered.generation == now.generation else "",
                extra=event("remembered", registered=remembered.registered, generation=remembered.generation),
            )
        status = InsecureStatus(source, lacking, identities.rebound) if lacking else source
        pages = WatchStreams(source)
        over_tcp = ("replace",) if legacy_replace else ()
        readers = readers_of(host, lacking)
        access = RequestCounts(Admission(readers, identities, page_contents, over_tcp, open_documents))
        observed = Observed(access, None, status, source, hinting.tally, pages, lacking)
        routes = fleet_routes(
            source, status, pages, evict=partial(_evicted, source, identities), shared=hints is not None
        )
        if page:
            routes += page_routes(status, source, title=title)
        if legacy_init_with_node:
            routes += init_with_node_routes(routes)
        drains: list[Callable[[], object]] = [pages.close, source.drain]
        if documents:
            kept, its = await stack.enter_async_context(
                documents_in(hinting, hints, interval, open_documents)
            )
            routes += its
            drains.append(kept.drain)
        listens = listening(await loading, routes, observed, host, port, admin_socket)
        server = await stack.enter_async_context(listens)
        try:
            yield server
        finally:
            server.drain()
            for drain in drains:
                drain()


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
    page_contents: bool = False,
    title: str | None = None,
    acknowledging: AcknowledgingSource | None = None,
    details: NodeDetails | None = None,
) -> AsyncIterator[HttpServer]:
    """A server of any source, such as a static bundle, while the context lasts; `lacking`, `page`, `page_contents`, `title`
    and `admin_socket` as for `serving_snapshot`. The others are the same source for what it can do: without `status` there is no `/status`,
    without `acknowledging` no `/ack` (which names digests); `details` are what nodes have registered and are given."""
    if status is not None and lacking:
        status = InsecureStatus(status, lacking, {})
    routes = CfgsyncServerState(source, status, acknowledging=acknowledging, has_generations=False).routes()
    if status is not None and details is not None:
        routes += node_list_routes(status, details)
    if page and status is not None:
        routes += page_routes(status, details=details, title=title)
    if legacy_init_with_node:
        routes += init_with_node_routes(routes)
    access = RequestCounts(Admission(readers_of(host, lacking), page_contents=page_contents))
    observed = Observed(access, status=status, lacking=lacking)
    async with listening(await load_http_server(), routes, observed, host, port, admin_socket) as server:
        yield server


async def serve_snapshot_cfgsync(
    port: int,
    materializer: RegistrationSnapshotMaterializer,
    *,
    host: str | Sequence[str] = "127.0.0.1",
    store: Backend | Engine | str = "memory:",
    late: Late = "follow",
    revision: str | None = None,
    sink: MaterializedArtifactsSink | None = None,
    run_timeout: float = 60.0,
    shrink_guard: float = 50.0,
    ttl: float | None = None,
    expose_errors: bool = False,
    admin_socket: AdminPlace = None,
) -> None:
    """Serve `materializer` on `host:port` until cancelled: `await serve_snapshot_cfgsync(4400, MyMaterializer())`.

    Arguments as for `serving_snapshot`, which a program uses that needs the running server.
    """
    async with serving_snapshot(
        materializer,
        host=host,
        port=port,
        store=store,
        late=late,
        revision=revision,
        sink=sink,
        run_timeout=run_timeout,
        shrink_guard=shrink_guard,
        ttl=ttl,
        expose_errors=expose_errors,
        admin_socket=admin_socket,
    ):
        await asyncio.Event().wait()


def fleet_routes(
    source: RegistrationConfigSource,
    status: StatusSource,
    pages: WatchStreams,
    *,
    evict: Callable[[str], Awaitable[bool]],
    shared: bool = False,
) -> list[Route]:
    """The routes of a server of registrations, without the page and the common routes."""
    state = CfgsyncServerState(
        source,
        status,
        shared=source if shared else None,
        acknowledging=source,
        presence=source,
        evict=evict,
    )
    operator = [*operator_routes(source), *node_list_routes(status, source)]
    return [*state.routes(), *operator, *pages.routes()]


async def _evicted(source: RegistrationConfigSource, identities: Identities, name: str) -> bool:
    """Make a node leave, and free a name that a crash has left bound but not registered."""
    return await source.evict(name) or await identities.release([name])
