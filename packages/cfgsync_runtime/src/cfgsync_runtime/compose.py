"""The composer: a store, a source, the wrappers and a server become one running thing, and stop in the right order."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from cfgsync_adapter import (
    Decider,
    Late,
    MaterializedArtifactsSink,
    RegistrationConfigSource,
    RegistrationSnapshotMaterializer,
)
from cfgsync_core import (
    CfgsyncServerState,
    ChangeHints,
    Engine,
    Handler,
    MemoryHints,
    NodeConfigSource,
    RevisionedStore,
    StatusSource,
    WatchStreams,
    event,
    notifying,
)

from .access.identity import Identities
from .access.insecure import InsecureOption, InsecureStatus, warn
from .backends import open_store
from .errors import MachineRefused
from .metrics.endpoint import MetricsEndpoint, Observed
from .metrics.requests import RequestCounts
from .operator.handlers import OperatorHandlers
from .operator.operator_routes import OPERATIONS
from .page import Page, door_of

if TYPE_CHECKING:
    from cfgsync_core import HttpServer

CHANGED_PROGRAM = "; has the program changed? `cfgsync generation renew`, or serve with another --revision"
"""Said where a generation of before stands: a mended program takes effect when it says so, and whoever tries it out for
the first time wonders why nothing happens."""

log = logging.getLogger("cfgsync")

FIRST_VERDICT_SECONDS = 2.0


@asynccontextmanager
async def serving_snapshot(
    materializer: RegistrationSnapshotMaterializer | None = None,
    *,
    decider: Decider | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    store: RevisionedStore | str = "memory:",
    late: Late = "follow",
    revision: str | None = None,
    sink: MaterializedArtifactsSink | None = None,
    run_timeout: float = 60.0,
    shrink_guard: float = 50.0,
    ttl: float | None = None,
    anonymous: bool = True,
    rebind: bool = False,
    lacking: tuple[InsecureOption, ...] = (),
    legacy_init_with_node: bool = False,
    page: bool = True,
    hints: ChangeHints | None = None,
    interval: float = 15.0,
    on_fatal: Callable[[BaseException], None] | None = None,
) -> AsyncIterator[HttpServer]:
    """A server of `materializer`, or of a `decider` that calls one elsewhere, while the context lasts; `port` 0 takes a free one, see `server.url`.

    `anonymous` takes nodes without a secret, `rebind` gives a name to whoever comes with another one (see `trust.md`);
    `lacking` is what its operator lets it do without, which is logged and told in `/status`.
    With `legacy_init_with_node`, `/node` is also `/init-with-node`, as the oldest clients of the original call it.
    A node that is not heard of for `ttl` seconds leaves (None: nobody does).
    `hints` say that other servers share the store: this one whispers to them, and follows what they commit, at each of
    their hints and every `interval` seconds.
    With `page`, `GET /` shows the fleet; off loopback it refuses unless `lacking` has "no-auth".
    `store` is a URL (opened and closed here) or an open store. Raises `StoreRefused`; `MachineRefused` for a port that
    is in use. Leaving answers everybody who waits 503 with `Retry-After`.
    """
    async with AsyncExitStack() as stack:
        loading = asyncio.create_task(load_http_server(), name="cfgsync-load-http")
        stack.callback(loading.cancel)
        opened: RevisionedStore = (
            store if not isinstance(store, str) else await _opened(stack, store, on_fatal)
        )
        hinting = await stack.enter_async_context(
            notifying(opened, MemoryHints() if hints is None else hints)
        )
        identities = Identities(hinting, anonymous=anonymous, rebind=rebind, hints=hints, interval=interval)
        source = RegistrationConfigSource(
            materializer,
            decider=decider,
            store=hinting,
            late=late,
            revision=revision,
            sink=sink,
            run_timeout=run_timeout,
            shrink_guard=shrink_guard,
            ttl=ttl,
            before_leaving=identities.release,
            hints=hints,
            interval=interval,
        )
        stack.push_async_callback(identities.close)
        await identities.open()
        await stack.enter_async_context(source)
        await source.settled(FIRST_VERDICT_SECONDS)  # a mended materializer's files reach whoever asks first
        remembered = source.fleet(0, "")
        if remembered.registered:
            generation = "none" if remembered.generation is None else remembered.generation.rpartition(".")[2]
            log.info(
                "remembered from before: %d nodes, generation %s%s",
                remembered.registered,
                generation,
                "" if remembered.generation is None else CHANGED_PROGRAM,
                extra=event("remembered", registered=remembered.registered, generation=remembered.generation),
            )
        status = InsecureStatus(source, lacking, identities.rebound) if lacking else source
        handlers = identities.guard(CfgsyncServerState(source, status).handlers())
        handlers |= OperatorHandlers(source).handlers()
        if legacy_init_with_node:
            handlers = _with_legacy_route(handlers)
        pages = WatchStreams(source)
        handlers["watch"] = pages.watch
        if page:
            handlers["page"] = Page(status, source, door=door_of(host, lacking))
        observed = Observed(RequestCounts(), None, status, source, hinting.tally, pages, lacking)
        observed.server = server = await stack.enter_async_context(
            _listening((await loading)(_observed(handlers, observed), host, port, operations=OPERATIONS))
        )
        warn(host, lacking)
        try:
            yield server
        finally:
            server.drain()
            pages.close()
            source.drain()


@asynccontextmanager
async def serving_source(
    source: NodeConfigSource,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    lacking: tuple[InsecureOption, ...] = (),
    legacy_init_with_node: bool = False,
    page: bool = True,
) -> AsyncIterator[HttpServer]:
    """A server of any source, such as a static bundle, while the context lasts; `lacking` and `page` as for
    `serving_snapshot`."""
    status: StatusSource | None = source if isinstance(source, StatusSource) else None
    if status is not None and lacking:
        status = InsecureStatus(status, lacking)
    handlers = CfgsyncServerState(source, status).handlers()
    if legacy_init_with_node:
        handlers = _with_legacy_route(handlers)
    if page and status is not None:
        handlers["page"] = Page(status, door=door_of(host, lacking))
    observed = Observed(RequestCounts(), status=status, lacking=lacking)
    handlers = _observed(handlers, observed)
    async with _listening((await load_http_server())(handlers, host, port)) as server:
        observed.server = server
        warn(host, lacking)
        yield server


async def serve_snapshot_cfgsync(
    port: int,
    materializer: RegistrationSnapshotMaterializer,
    *,
    host: str = "127.0.0.1",
    store: RevisionedStore | str = "memory:",
    late: Late = "follow",
    revision: str | None = None,
    sink: MaterializedArtifactsSink | None = None,
    run_timeout: float = 60.0,
    shrink_guard: float = 50.0,
    ttl: float | None = None,
) -> None:
    """Serve `materializer` on `host:port` until cancelled: `await serve_snapshot_cfgsync(4400, MyMaterializer())`.

    Arguments as for `serving_snapshot`, which gives the running server to a program that wants more than that.
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
    ):
        await asyncio.Event().wait()


async def load_http_server() -> type[HttpServer]:
    """Load the web server's library in a thread. A quarter of a server's start is that, and much of it without the
    interpreter lock: the materializer's process starts and the store opens meanwhile."""

    def load() -> type[HttpServer]:
        from cfgsync_core import HttpServer

        return HttpServer

    return await asyncio.to_thread(load)


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one: a held request is an open socket."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def stop_signals() -> AsyncIterator[asyncio.Future[signal.Signals]]:
    """A future that the first SIGTERM or SIGINT resolves; a second one is left to its default."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[signal.Signals] = loop.create_future()

    def stop(sent: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(sent)
        loop.remove_signal_handler(sent)

    for sent in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sent, stop, sent)
    try:
        yield stopped
    finally:
        for sent in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(sent)


def _observed(handlers: Mapping[str, Handler], observed: Observed) -> dict[str, Handler]:
    """The same table, counted, and with `metrics`."""
    return observed.traffic.counted({**handlers, "metrics": MetricsEndpoint(observed)})


def _with_legacy_route(handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    return {**handlers, "init-with-node": handlers["node"]}


async def _opened(
    stack: AsyncExitStack, url: str, on_fatal: Callable[[BaseException], None] | None
) -> Engine:
    return await stack.enter_async_context(open_store(url, on_fatal=on_fatal))


@asynccontextmanager
async def _listening(server: HttpServer) -> AsyncIterator[HttpServer]:
    try:
        await server.__aenter__()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "this machine has no such address"
        do = "stop what is listening there" if error.errno else "another --host"
        raise MachineRefused(
            f"cannot listen on {server.address}: {why}", f"give another --port, or {do}"
        ) from error
    try:
        yield server
    finally:
        await server.__aexit__(None, None, None)
