"""What `serve` runs: how the server of each kind of contents is made, and how it takes new contents of its file."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from cfgsync_adapter import SnapshotMaterializer
from cfgsync_core import BundleConfigSource
from cfgsync_core.log_events import event
from cfgsync_core.server import Sign

from ....access.signatures import Signer
from ....compose.fleet_server import serving_snapshot
from ....compose.source_server import serving_source
from ....errors import InputError
from ....materializer.account import Account
from ....materializer.child import ChildDecider
from ....materializer.loading import load_materializer
from ....materializer.own_loop import OwnLoop
from ....process.lines import Lines
from ....process.logs import log_of_application, passing_on
from ....settings.serve_settings import ServeSettings
from ....settings.server_file import BundleServer
from .reloads import Adopt, FileArtifacts, bundle_source

if TYPE_CHECKING:
    from cfgsync_core import HttpServer

    from ....access.tls import ServerCertificate
    from ....materializer.checking import ChildChecker

log = logging.getLogger("cfgsync")

OnFatal: TypeAlias = Callable[[BaseException], None]
Running: TypeAlias = Callable[[OnFatal], AbstractAsyncContextManager["HttpServer"]]


def served(
    settings: ServeSettings, lines: Lines, tls: ServerCertificate | None
) -> tuple[Running, Adopt | None]:
    """How a server of what the settings name is made, and how it takes new contents of its file. Raises `InputError`."""
    common: dict[str, Any] = settings.model_dump(
        include={"host", "port", "legacy_init_with_node", "title", "page_contents"}
    )
    common |= {"lacking": settings.lacking, "page": not settings.no_page}
    common |= {"admin_socket": settings.admin_socket or True}
    common |= {"tls": tls, "trusted_proxies": settings.trusted_proxy}
    server = settings.server
    if server is not None and not server.bundle.nodes:
        log.warning("there is no node in %s: every node gets 404", server.file, extra=event("empty_bundle"))
    if server is not None and settings.is_static:
        source = bundle_source(server)

        async def adopt(new: BundleServer) -> None:
            source.adopt(await asyncio.to_thread(bundle_source, new))

        known: dict[str, Any] = {
            "acknowledging": source,
            "details": source,
            "sign": _signing(settings, source),
        }
        if settings.requires_tokens:
            known |= {"store": settings.store, "anonymous": settings.allow_anonymous}
        return partial(_of_bundle, source, **known, **common), adopt
    common |= {"requires_tokens": settings.requires_tokens, "open_documents": settings.open_documents}
    common |= {"allowed_origins": settings.allow_origin}
    if settings.validator is not None:
        common |= {"checker": _checking(settings, settings.validator, lines)}
    if server is None and settings.materializer is None:
        for name in ("legacy_init_with_node", "page_contents"):
            del common[name]
        return partial(_of_documents, store=settings.store, **common), None
    common |= {
        "anonymous": settings.allow_anonymous or not settings.requires_tokens,
        "documents": settings.has_documents,
        "rebind": "no-auth" in settings.lacking,
        "rollout": settings.rollout_policy,
        "run_timeout": math.inf if settings.debug else settings.run_timeout,
        **settings.model_dump(
            include={
                *("store", "late", "revision", "shrink_guard", "ttl"),
                *("expose_errors", "legacy_replace", "signing_key"),
            }
        ),
    }
    if server is not None:
        files = FileArtifacts(server)
        return partial(_running, files, on_open=files.on_open, **common), files.adopt
    assert settings.materializer is not None  # one of the two is set
    if not settings.debug:
        printed = passing_on(lines, settings.json_logs)
        account = None if settings.materializer_user is None else Account.of(settings.materializer_user)
        decider = ChildDecider(
            settings.materializer, printed=printed, json_logs=settings.json_logs, account=account
        )
        return partial(_deciding_elsewhere, decider, **common), None
    log_of_application(handler=lines)
    try:
        return partial(_running, OwnLoop(load_materializer(settings.materializer)), **common), None
    except InputError as error:
        if error.trace:
            lines.say(error.trace)
        raise


def _of_documents(on_fatal: OnFatal, **options: Any) -> AbstractAsyncContextManager[HttpServer]:
    from ....compose.document_server import serving_documents  # loaded only where they are served

    return serving_documents(on_fatal=on_fatal, **options)


def _of_bundle(
    source: BundleConfigSource, on_fatal: OnFatal, **options: Any
) -> AbstractAsyncContextManager[HttpServer]:
    return serving_source(source, source, on_fatal=on_fatal, **options)


def _running(
    materializer: SnapshotMaterializer, on_fatal: OnFatal, **options: Any
) -> AbstractAsyncContextManager[HttpServer]:
    return serving_snapshot(materializer, on_fatal=on_fatal, **options)


@asynccontextmanager
async def _deciding_elsewhere(
    decider: ChildDecider, on_fatal: OnFatal, **options: Any
) -> AsyncIterator[HttpServer]:
    async with decider, serving_snapshot(decider=decider, on_fatal=on_fatal, **options) as server:
        yield server


def _checking(settings: ServeSettings, validator: str, lines: Lines) -> ChildChecker:
    from ....materializer.checking import ChildChecker  # loaded only where there is one

    account = None if settings.materializer_user is None else Account.of(settings.materializer_user)
    printed = passing_on(lines, settings.json_logs)
    return ChildChecker(validator, printed=printed, json_logs=settings.json_logs, account=account)


def _signing(settings: ServeSettings, bundle: BundleConfigSource) -> Sign:
    """The signatures in a bundle, or those of the server's own key."""
    if settings.signing_key is None:
        return bundle.signature
    signer = Signer(settings.signing_key)
    return lambda identifier, _, digest: signer(identifier, str(bundle.revision), digest)
