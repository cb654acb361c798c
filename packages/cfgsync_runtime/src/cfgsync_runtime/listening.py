"""How a server of routes comes to listen: its library, its port, and its admin socket."""

from __future__ import annotations

import asyncio
import errno
import resource
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from cfgsync_core import ParserMissing
from cfgsync_core.server import Route, documented

from .access.admin_socket import AdminPlace, opened_admin_socket
from .access.insecure import warn, warn_of_any_proxy
from .errors import MachineRefused
from .metrics.endpoint import metrics_routes
from .metrics.observed import Observed
from .process.threads import in_thread

if TYPE_CHECKING:
    from cfgsync_core import HttpServer


async def load_http_server() -> type[HttpServer]:
    """Load the web server's library in a thread. That takes a quarter of a server's start, and much of it without the
    interpreter lock: meanwhile the materializer's process starts and the store opens."""

    def load() -> type[HttpServer]:
        from cfgsync_core import HttpServer

        return HttpServer

    return await in_thread(load)  # SIGTERM need not wait for it


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one: a held request is an open socket."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def listening(
    kind: type[HttpServer],
    routes: Sequence[Route],
    observed: Observed,
    host: str | Sequence[str],
    port: int,
    admin: AdminPlace,
    trusted_proxies: Sequence[str] = (),
) -> AsyncIterator[HttpServer]:
    """The server of `routes` and the common ones, over TLS with the certificate of `observed`."""
    routes = documented([*routes, *metrics_routes(observed)])
    tls = observed.tls
    observed.server = server = kind(
        routes,
        host,
        port,
        access=observed.traffic,
        tls=None if tls is None else tls.context,
        trusted_proxies=trusted_proxies,
    )
    try:
        await server.__aenter__()
    except OSError as error:
        absent = error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
        do = "another --host" if absent else "stop the program that listens there"
        raise MachineRefused(
            f"cannot listen on {error.filename}: {error.strerror}", f"give another --port, or {do}"
        ) from error
    except ParserMissing as error:
        raise MachineRefused(str(error), error.hint) from error
    warn(host, observed.lacking)
    warn_of_any_proxy(trusted_proxies)
    following = None if tls is None else asyncio.create_task(tls.follow(), name="cfgsync-certificate")
    try:
        # only now is the port known, and that it is ours
        with opened_admin_socket(admin, server.port) as bound:
            if bound is not None:
                server.listen(bound)
            yield server
    finally:
        if following is not None:
            following.cancel()
        await server.__aexit__(None, None, None)
