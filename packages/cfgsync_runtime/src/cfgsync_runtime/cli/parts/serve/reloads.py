"""SIGHUP: a server reads the contents of its bundle or server file again; what is wrong with them leaves the old ones served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final, TypeAlias

from cfgsync_adapter import MaterializedArtifacts, RegistrationConfigSource, RegistrationSnapshot
from cfgsync_artifacts import CfgsyncError, digest_of
from cfgsync_core import BundleConfigSource
from cfgsync_core.log_events import event
from cfgsync_core.text import counted, plain

from ....access.signatures import changed_since_signed
from ....errors import InputError
from ....settings.serve_settings import ServeSettings
from ....settings.server_file import BundleServer

INSTEAD: Final = (
    "SIGHUP: a materializer has no file to read again; a changed program takes effect with a restart,"
    " and `cfgsync generation rebuild` runs this one again"
)
NO_FILE: Final = "SIGHUP: documents have no file to read again; cfgsync config set writes one"

log = logging.getLogger("cfgsync")


Adopt: TypeAlias = Callable[[BundleServer], Awaitable[object]]
"""Takes the new contents of the file that is served."""


class FileArtifacts:
    """The materializer of a server file: it decides what was in the file when that was read last. `revision` is what was in
    it at the start, so that a server that restarts with another content serves that."""

    def __init__(self, server: BundleServer) -> None:
        self._made = artifacts_of(server)
        self._source: RegistrationConfigSource | None = None
        self.revision = _digest(self._made)

    def on_open(self, source: RegistrationConfigSource) -> None:
        """The source that calls it."""
        self._source = source

    async def adopt(self, server: BundleServer) -> None:
        """Decide what is in the file now."""
        assert self._source is not None
        self._made = artifacts_of(server)
        await self._source.parts.operator.renew(wait=0.0)

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
        """See `RegistrationSnapshotMaterializer`."""
        return self._made


class Reloads:
    """Reads the files of a running server again: `read` makes new settings, `adopt` takes the contents, and `certificate` reads
    the certificate. A materializer has no file, and None."""

    def __init__(
        self,
        settings: ServeSettings,
        adopt: Adopt | None,
        read: Callable[[], ServeSettings],
        certificate: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._certificate = certificate
        self._settings = settings
        self._adopt = adopt
        self._read = read

    async def follow(self, asked: asyncio.Event) -> None:
        """Reload each time that `asked` is set."""
        while True:
            await asked.wait()
            asked.clear()
            if self._certificate is not None:
                await self._certificate()
            try:
                await self._reload()
            except CfgsyncError as error:
                hint = getattr(error, "hint", "")
                log.error(
                    "SIGHUP: the old contents stay: %s%s",
                    error,
                    f"; {hint}" if hint else "",
                    extra=event("reload_refused"),
                )

    async def _reload(self) -> None:
        """Raises `CfgsyncError`."""
        held = self._settings.server
        if held is None or self._adopt is None:
            if self._certificate is not None:
                return
            log.warning(INSTEAD if self._settings.materializer else NO_FILE, extra=event("reload_refused"))
            return
        new = await asyncio.to_thread(self._read)
        old, server = self._settings, new.server
        if server is None or server.registered_only != held.registered_only:
            raise InputError("another kind of source needs a restart", "")
        if held.bundle.nodes and not server.bundle.nodes:
            raise InputError(
                f"there is no node in {server.file}, and {counted(len(held.bundle.nodes), 'node')} would get nothing any more",
                "if that is meant, restart the server",
            )
        if changed := sorted(
            field
            for field in ServeSettings.model_fields
            if field != "server" and getattr(new, field) != getattr(old, field)
        ):
            log.warning(
                "SIGHUP: restart needed for a changed %s; the contents are read without it",
                " and ".join(changed),
                extra=event("restart_needed", settings=", ".join(changed)),
            )
        if server == held:
            log.info("SIGHUP: the contents are as before", extra=event("reloaded", changed=False))
            return
        await self._adopt(server)
        self._settings = old.model_copy(update={"server": server})
        nodes = len(server.bundle.nodes)
        log.info(
            "SIGHUP: %s is read again (%s)",
            server.file,
            counted(nodes, "node"),
            extra=event("reloaded", changed=True, nodes=nodes),
        )


def bundle_source(server: BundleServer) -> BundleConfigSource:
    """The source of a bundle file. Warns of nodes whose files have changed since they were signed."""
    source = BundleConfigSource(server.bundle, server.file)
    if source.signatures and (changed := changed_since_signed(source.signatures, source.digests)):
        log.warning(
            "%s: changed since it was signed, and refused by nodes with --verify-key: %s; sign it again: cfgsync bundle sign",
            server.file,
            plain(", ".join(changed), 200),
            extra=event("signature_stale", nodes=len(changed)),
        )
    return source


def _digest(made: MaterializedArtifacts) -> str:
    shared = made.shared.manifest
    nodes = "".join(f"{name} {digest_of(files.manifest, shared)}\n" for name, files in sorted(made))
    return sha256(nodes.encode()).hexdigest()[:16]


def artifacts_of(server: BundleServer) -> MaterializedArtifacts:
    """What a server file says that registered nodes get."""
    nodes = {node.identifier: node.files for node in server.bundle.nodes}
    return MaterializedArtifacts.from_nodes(nodes).with_shared(server.bundle.shared_files)
