"""SIGHUP: a server reads the contents of its bundle or server file again; what is wrong with them leaves the old ones served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from cfgsync_adapter import MaterializedArtifacts, RegistrationConfigSource, RegistrationSnapshot
from cfgsync_artifacts import CfgsyncError, digest_of
from cfgsync_core import BundleConfigSource
from cfgsync_core.log_events import event
from cfgsync_core.text import counted

from ...settings.serve_settings import ServeSettings
from ...settings.server_file import RegistrationServer, StaticServer

INSTEAD: Final = (
    "SIGHUP: a materializer has no file to read again; a changed program takes effect with a restart,"
    " and `cfgsync generation renew` runs this one again"
)
NO_FILE: Final = "SIGHUP: documents have no file to read again; cfgsync config set writes one"

log = logging.getLogger("cfgsync")


class FileArtifacts:
    """The materializer of a server file: it decides what was in the file when that was read last. `revision` is what was in
    it at the start, so that a server that restarts with another content serves that."""

    def __init__(self, server: RegistrationServer) -> None:
        self.made = artifacts_of(server)
        self.revision = _digest(self.made)

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializedArtifacts:
        """See `RegistrationSnapshotMaterializer`."""
        return self.made


class Reloads:
    """Reads the file of a running server again. `served` was made from `settings`; `read` makes new settings."""

    def __init__(self, settings: ServeSettings, served: object, read: Callable[[], ServeSettings]) -> None:
        self._settings = settings
        self._served = served
        self._read = read
        self._source: RegistrationConfigSource | None = None

    def on_open(self, source: RegistrationConfigSource) -> None:
        """The source that calls the materializer."""
        self._source = source

    async def follow(self, asked: asyncio.Event) -> None:
        """Reload each time that `asked` is set."""
        while True:
            await asked.wait()
            asked.clear()
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
        if self._settings.server is None:
            log.warning(INSTEAD if self._settings.materializer else NO_FILE, extra=event("reload_refused"))
            return
        new = await asyncio.to_thread(self._read)
        old, server = self._settings, new.server
        if type(server) is not type(old.server):
            log.error(
                "SIGHUP: the old contents stay: another kind of source needs a restart",
                extra=event("reload_refused"),
            )
            return
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
        if server == old.server:
            log.info("SIGHUP: the contents are as before", extra=event("reloaded", changed=False))
            return
        if isinstance(server, StaticServer):
            assert isinstance(self._served, BundleConfigSource)
            self._served.adopt(await asyncio.to_thread(BundleConfigSource, server.bundle, server.file))
            nodes = len(server.bundle.nodes)
        else:
            assert isinstance(server, RegistrationServer)
            assert isinstance(self._served, FileArtifacts)
            assert self._source is not None
            self._served.made = artifacts_of(server)
            await self._source.parts.operator.renew(wait=0.0)
            nodes = len(server.nodes)
        self._settings = old.model_copy(update={"server": server})
        log.info(
            "SIGHUP: %s is read again (%s)",
            server.file,
            counted(nodes, "node"),
            extra=event("reloaded", changed=True, nodes=nodes),
        )


def _digest(made: MaterializedArtifacts) -> str:
    shared = made.shared.manifest
    nodes = "".join(f"{name} {digest_of(files.manifest, shared)}\n" for name, files in sorted(made))
    return sha256(nodes.encode()).hexdigest()[:16]


def artifacts_of(server: RegistrationServer) -> MaterializedArtifacts:
    """What a server file says that registered nodes get."""
    return MaterializedArtifacts.from_nodes(server.nodes).with_shared(server.shared)
