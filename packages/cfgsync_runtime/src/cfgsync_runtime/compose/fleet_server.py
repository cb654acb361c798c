"""A server of registrations: a materializer, or a decider that calls one elsewhere, decides which files each node gets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from cfgsync_adapter import (
    Decider,
    Late,
    MaterializedArtifactsSink,
    RegistrationConfigSource,
    Rollout,
    SnapshotMaterializer,
)
from cfgsync_adapter.application import DocumentsFeed, documents_of
from cfgsync_core import (
    Backend,
    CfgsyncServerState,
    ChangeHints,
    Engine,
)
from cfgsync_core.log_events import event
from cfgsync_core.server import Route, Sign, WatchStreams, init_with_node_routes
from cfgsync_core.store import Describe
from cfgsync_core.text import counted
from cfgsync_core.wire import StatusSource

from ..access.admin_socket import AdminPlace
from ..access.admission import Admission, readers_of
from ..access.identity import Identities, opened_identities
from ..access.insecure import (
    InsecureOption,
    exposes_errors,
)
from ..access.signatures import Signer
from ..errors import InputError
from ..listening import listening, load_http_server
from ..metrics.observed import Observed
from ..metrics.requests import RequestCounts
from ..operator.node_list import node_list_routes
from ..operator.operator_routes import operator_routes
from ..operator.rollout_routes import rollout_routes
from ..operator.token_routes import token_routes
from ..page.answering import page_routes
from .backend import notifying, opened
from .fellow_servers import SharedStatus
from .protection import protected, refuse_open

if TYPE_CHECKING:
    from cfgsync_core import HttpServer
    from cfgsync_documents.service import Documents

    from ..access.tls import ServerCertificate
    from ..materializer.checking import ChildChecker


CHANGED_PROGRAM = "; has the program changed? `cfgsync generation rebuild`, or serve with another --revision"
"""Logged with a generation from before the start: a changed program takes effect only with another revision."""

log = logging.getLogger("cfgsync")

FIRST_VERDICT_SECONDS = 2.0


@asynccontextmanager
async def serving_snapshot(
    materializer: SnapshotMaterializer | None = None,
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
    requires_tokens: bool = False,
    lacking: tuple[InsecureOption, ...] = (),
    legacy_init_with_node: bool = False,
    page: bool = True,
    page_contents: bool = False,
    legacy_replace: bool = False,
    documents: bool = False,
    open_documents: bool = False,
    allowed_origins: Sequence[str] = (),
    checker: ChildChecker | None = None,
    admin_socket: AdminPlace = None,
    tls: ServerCertificate | None = None,
    trusted_proxies: Sequence[str] = (),
    signing_key: str | None = None,
    title: str | None = None,
    hints: ChangeHints | str | None = None,
    events_stream: str | None = None,
    project_kv: bool = False,
    interval: float = 15.0,
    rollout: Rollout | None = None,
    on_fatal: Callable[[BaseException], None] | None = None,
    on_open: Callable[[RegistrationConfigSource], object] = lambda _: None,
) -> AsyncIterator[HttpServer]:
    """A server of `materializer`, or of a `decider` that calls one elsewhere, while the context lasts.

    `port` 0 takes a free port, see `server.url`. `anonymous` accepts nodes without a secret, `rebind` gives a name to a
    node with another secret; with `requires_tokens` a name is bound with a join token only, and `/status` and the page are for
    a reader's token; `lacking` are the protections that the operator switched off, which the log and `/status` show.
    With `legacy_init_with_node`, `/node` is also `/init-with-node`, for the oldest clients.
    A node that promised to keep in touch, and sends nothing for `ttl` seconds, leaves (None: no node does).
    Nodes and `/status` get type and place of a failure; with `expose_errors` its words too, on loopback only.
    With `hints` (default: the backend's own), other servers share the store: this server sends them hints, and reads what
    they commit, at each of their hints and every `interval` seconds. `hints` as a URL (`nats://…`) also takes the events of
    documents, with `events_stream` to that JetStream stream, and with `project_kv` a readable copy of the documents.
    `on_open` gets the source before it serves. With `page`, `GET /` shows the fleet under `title` (default: this host's name);
    off loopback it refuses unless `lacking` has "no-auth", or shows it to readers with a token. `admin_socket` is the path of a Unix socket for `cfgsync node` and
    `cfgsync generation`; True is where they look for it. On loopback only: `page_contents` shows files on the page,
    `legacy_replace` takes `/node/replace` over TCP.
    `documents` serves config documents from the same store, also to a materializer that names an environment of them, and on loopback `open_documents` lets every program of the machine
    read and write them; web pages of `allowed_origins` may watch them; `checker` has the validator that judges each write.
    With `tls` the server speaks TLS only, and reads the certificate again when its files change. `trusted_proxies` are the
    networks of proxies whose `X-Forwarded-For` names the client, for logs.
    `rollout` says how a change reaches nodes that take turns. `signing_key` is the file with the private key that signs what nodes get.
    `store` is a URL (opened and closed here), an open backend, or a store that is its own `StoreAdmin`. Raises `InputError`
    for a `host` that other machines can reach without `tls` or without `requires_tokens`, unless `lacking` names what is
    missing ("no-tls", "no-auth"); `StoreRefused`; `MachineRefused` for a port that is in use. Leaving answers every waiting
    node 503 with `Retry-After`.
    """
    refuse_open(host, lacking, has_tls=tls is not None, has_rule=requires_tokens)
    sign = None if signing_key is None else Signer(signing_key)
    async with AsyncExitStack() as stack:
        loading = asyncio.create_task(load_http_server(), name="cfgsync-load-http")
        stack.callback(loading.cancel)
        backend = await stack.enter_async_context(opened(store, on_fatal, hints, events_stream))
        hints, kv_url = backend.hints, hints if project_kv else None
        described: Describe | None = None
        if documents:
            from cfgsync_documents.service import describe as described  # loaded only where they are served
        hinting = await stack.enter_async_context(notifying(backend, described))
        identified = opened_identities(
            hinting, hints, interval, anonymous=anonymous, rebind=rebind, requires_tokens=requires_tokens
        )
        tokens, identities = await stack.enter_async_context(identified)
        kept = feed = None
        its: list[Route] = []
        reads = documents_of(materializer or decider)
        if documents:
            from ..page.documents.answering import document_page_routes
            from .document_server import documents_in, projection_to  # loaded only where they are served

            shown = partial(document_page_routes, title=title, has_login=True) if page else None
            project = projection_to(kv_url, backend, interval, hinting.tally)
            opened_documents = documents_in(
                hinting, hints, interval, open_documents, checker, shown, project=project
            )
            kept, its = await stack.enter_async_context(opened_documents)
        if reads:
            feed = await stack.enter_async_context(_fed(kept, reads))
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
            documents=feed,
            expose_errors=exposes_errors(expose_errors, host),
            before_leaving=identities.leave,
            hints=hints,
            interval=interval,
            rollout=rollout,
        )
        identities.lapsed = source.lapse
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
        status = protected(source, lacking, identities.rebound, tls)
        fellows = None
        if hints is not None:
            status = fellows = SharedStatus(status, backend.store)
        pages = WatchStreams(source)
        over_tcp = ("replace",) if legacy_replace else ()
        readers = readers_of(host, lacking, requires_tokens)
        admission = Admission(
            readers,
            identities,
            page_contents,
            over_tcp,
            tokens=tokens,
            open_documents=open_documents,
            allowed_origins=allowed_origins,
        )
        access = RequestCounts(admission)
        observed = Observed(access, None, status, source, hinting.tally, pages, lacking, tls)
        routes = fleet_routes(
            source,
            status,
            pages,
            evict=partial(_evicted, source, identities),
            sign=sign,
        )
        routes += token_routes(tokens, tls)
        if page:
            routes += page_routes(status, source, title=title, tokens=tokens, has_documents=documents)
        if legacy_init_with_node:
            routes += init_with_node_routes(routes)
        drains: list[Callable[[], object]] = [pages.close, source.drain]
        routes += its
        if kept is not None:
            drains.append(kept.drain)
        listens = listening(await loading, routes, observed, host, port, admin_socket, trusted_proxies)
        server = await stack.enter_async_context(listens)
        if fellows is not None:
            await stack.enter_async_context(fellows.listed(server.port))
        try:
            yield server
        finally:
            server.drain()
            for drain in drains:
                drain()


def fleet_routes(
    source: RegistrationConfigSource,
    status: StatusSource,
    pages: WatchStreams,
    *,
    evict: Callable[[str], Awaitable[bool]],
    sign: Sign | None = None,
) -> list[Route]:
    """The routes of a server of registrations, without the page and the common routes."""
    state = CfgsyncServerState(
        source,
        status,
        fleet=source,
        acknowledging=source,
        presence=source,
        evict=evict,
        sign=sign,
    )
    operator = [*operator_routes(source), *rollout_routes(source), *node_list_routes(status, source)]
    return [*state.routes(), *operator, *pages.routes()]


def _fed(documents: Documents | None, reads: str) -> AbstractAsyncContextManager[DocumentsFeed]:
    """What a materializer with the attribute `documents` reads."""
    if documents is None:
        raise InputError(
            f"the materializer reads the documents of {reads}, which this server does not serve",
            "serve them: --documents (in a program: documents=True)",
        )
    from .documents_feed import feeding

    return feeding(documents, reads)


async def _evicted(source: RegistrationConfigSource, identities: Identities, name: str) -> bool:
    """Make a node leave, and free a name that a crash has left bound but not registered."""
    with identities.evicting(name):
        return await source.evict(name) or await identities.free(name)
