"""A server inside a program."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cfgsync_adapter import (
    Late,
    MaterializedArtifactsSink,
    Rollout,
    SnapshotMaterializer,
)
from cfgsync_core import (
    Backend,
    Engine,
)

from ..access.admin_socket import AdminPlace
from ..access.insecure import (
    InsecureOption,
    is_loopback,
    lacking_of,
)
from .fleet_server import serving_snapshot
from .protection import refuse_open

if TYPE_CHECKING:
    from ..access.tls import ServerCertificate


async def serve_snapshot_cfgsync(
    port: int,
    materializer: SnapshotMaterializer,
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
    rollout: Rollout | None = None,
    admin_socket: AdminPlace = None,
    tls: ServerCertificate | None = None,
    insecure_no_tls: bool = False,
    insecure_no_auth: bool = False,
) -> None:
    """Serve `materializer` on `host:port` until cancelled: `await serve_snapshot_cfgsync(4400, MyMaterializer())`.

    Arguments as for `serving_snapshot`, which a program uses that needs the running server. A `host` that other machines can
    reach needs `tls`, or `insecure_no_tls=True`; its nodes need join tokens (`cfgsync token create`, over the admin socket)
    unless `insecure_no_auth=True`. Raises `InputError`.
    """
    lacking = lacking_of(host, no_tls=insecure_no_tls and tls is None, no_auth=insecure_no_auth)
    requires_tokens = not (is_loopback(host) or insecure_no_auth)
    refuse_open(host, lacking, has_tls=tls is not None, has_rule=requires_tokens, spelled=_as_arguments)
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
        rollout=rollout,
        anonymous=not requires_tokens,
        rebind="no-auth" in lacking,
        requires_tokens=requires_tokens,
        lacking=lacking,
        admin_socket=admin_socket,
        tls=tls,
    ):
        await asyncio.Event().wait()


def _as_arguments(missing: Sequence[InsecureOption]) -> str:
    return ", ".join(f"insecure_{one.replace('-', '_')}=True" for one in missing)
