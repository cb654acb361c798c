"""A server of config documents: what a store needs to keep them, their routes, and a server of nothing else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from cfgsync_core import Backend, ChangeHints, Engine
from cfgsync_core.follow import OtherServers
from cfgsync_core.server import Route, health_routes
from cfgsync_core.store import NotifyingStore, StoreCounts, refuse_moved
from cfgsync_documents.http import name_routes, scope_routes
from cfgsync_documents.service import Documents, History, describe

from ..access.admin_socket import AdminPlace
from ..access.admission import Admission, readers_of
from ..access.identity import opened_identities
from ..access.insecure import InsecureOption, warn_of_open_documents
from ..listening import listening, load_http_server
from ..materializer.checking import ChildChecker
from ..metrics.observed import Observed
from ..metrics.requests import RequestCounts
from ..operator.token_routes import token_routes
from ..page.documents.answering import document_page_routes
from ..page.login.routes import login_routes
from .backend import notifying, opened
from .protection import refuse_open

if TYPE_CHECKING:
    from cfgsync_core import HttpServer

    from ..access.tls import ServerCertificate


PageRoutes: TypeAlias = Callable[..., list[Route]]
"""`document_page_routes`, of which `documents` and `history` are missing, and `are_open`."""
Project: TypeAlias = Callable[[Documents], AbstractAsyncContextManager[object]]


@asynccontextmanager
async def documents_in(
    store: NotifyingStore,
    hints: ChangeHints | None,
    interval: float,
    are_open: bool,
    checker: ChildChecker | None = None,
    page: PageRoutes | None = None,
    *,
    project: Project = lambda documents: nullcontext(),
) -> AsyncIterator[tuple[Documents, list[Route]]]:
    """The documents in a store while the context lasts, and their routes; `page` makes those of their page, and `project`
    keeps a copy of them elsewhere."""
    if are_open:
        warn_of_open_documents()
    others = None if hints is None else OtherServers(hints, interval)
    async with (
        checker or ChildChecker() as judging,
        Documents(store, others, checker=judging) as documents,
        History(store, documents) as history,
        project(documents),
    ):
        shown = [] if page is None else page(documents, history, are_open=are_open)
        yield documents, [*name_routes(documents), *scope_routes(documents, history), *shown]


def projection_to(url: object, backend: Backend, interval: float, counts: StoreCounts) -> Project:
    """What keeps a copy of documents on the bus at `url`; nothing does when that is no URL."""
    if not isinstance(url, str):
        return lambda documents: nullcontext()
    from ..backends.nats import projecting  # an extra

    async def may_write() -> None:
        await refuse_moved(backend)
        await backend.admin.ping()

    return lambda documents: projecting(url, documents, interval, counts, may_write)


@asynccontextmanager
async def serving_documents(
    *,
    host: str | Sequence[str] = "127.0.0.1",
    port: int = 0,
    store: Backend | Engine | str = "memory:",
    open_documents: bool = False,
    allowed_origins: Sequence[str] = (),
    checker: ChildChecker | None = None,
    page: bool = True,
    title: str | None = None,
    requires_tokens: bool = False,
    lacking: tuple[InsecureOption, ...] = (),
    tls: ServerCertificate | None = None,
    trusted_proxies: Sequence[str] = (),
    admin_socket: AdminPlace = None,
    hints: ChangeHints | str | None = None,
    events_stream: str | None = None,
    project_kv: bool = False,
    interval: float = 15.0,
    on_fatal: Callable[[BaseException], None] | None = None,
) -> AsyncIterator[HttpServer]:
    """A server of config documents alone, while the context lasts; arguments as for `serving_snapshot`. Raises what
    that raises. `checker` has the validator that judges each write."""
    refuse_open(host, lacking, has_tls=tls is not None, has_rule=requires_tokens)
    async with AsyncExitStack() as stack:
        loading = asyncio.create_task(load_http_server(), name="cfgsync-load-http")
        stack.callback(loading.cancel)
        backend = await stack.enter_async_context(opened(store, on_fatal, hints, events_stream))
        hints, kv_url = backend.hints, hints if project_kv else None
        hinting = await stack.enter_async_context(notifying(backend, describe))
        project = projection_to(kv_url, backend, interval, hinting.tally)
        identified = opened_identities(
            hinting, hints, interval, anonymous=False, requires_tokens=requires_tokens
        )
        tokens, _ = await stack.enter_async_context(identified)
        pages = partial(document_page_routes, title=title, has_login=True, has_fleet=False) if page else None
        kept, its = await stack.enter_async_context(
            documents_in(hinting, hints, interval, open_documents, checker, pages, project=project)
        )
        readers = readers_of(host, lacking, requires_tokens)
        admission = Admission(
            readers, tokens=tokens, open_documents=open_documents, allowed_origins=allowed_origins
        )
        access = RequestCounts(admission)
        observed = Observed(access, store=hinting.tally, lacking=lacking, tls=tls)
        routes = [*health_routes(backend.admin.ping), *its, *token_routes(tokens, tls)]
        if page:
            routes += login_routes(tokens, socket.gethostname() if title is None else title)
        listens = listening(await loading, routes, observed, host, port, admin_socket, trusted_proxies)
        server = await stack.enter_async_context(listens)
        try:
            yield server
        finally:
            server.drain()
            kept.drain()
