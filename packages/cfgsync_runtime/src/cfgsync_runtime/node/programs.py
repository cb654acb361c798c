"""The node's whole side as one call, for asyncio programs: register, wait, check, write, remember, acknowledge."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec
from aiofiles.os import wrap
from aiohttp import ClientSession

from cfgsync_artifacts import DiskError, Patience
from cfgsync_core import (
    Acknowledgement,
    CfgsyncClient,
    Fetched,
    FetchFailed,
    IntegrityError,
    NodeRegistration,
    NotReadyInTime,
    Unreachable,
)
from cfgsync_core.node import Verify

from .degraded_start import WAIT, ConfigStartupMode, usable
from .memory.accepted import newest_generation, remember
from .memory.state import NodeState, warn
from .outputs import ArtifactOutputMap, OutputDirectory, Written, write

if TYPE_CHECKING:
    import ssl


async def fetch_and_write_artifacts(
    registration: NodeRegistration,
    url: str,
    outputs: ArtifactOutputMap | OutputDirectory,
    *,
    wait: float | None = None,
    secret: str | None = None,
    session: ClientSession | None = None,
    state: str | os.PathLike[str] | None = None,
    startup_mode: ConfigStartupMode = ConfigStartupMode.FAIL_CLOSED,
    max_stale: float | None = None,
    ca_file: str = "",
    ca_hash: str = "",
    ssl_context: ssl.SSLContext | None = None,
    verify: Verify | None = None,
) -> Written:
    """Register at the server, wait up to `wait` seconds (default 300; 5 with DEGRADED) for the files, and write them.

    Without `secret` or `state` the name stays unbound. With `state`, a directory of this node alone, the node makes its own
    secret, accepts no older answer than the last one, remembers the files and acknowledges them. With DEGRADED and no
    server in time, it writes the remembered files, if a server confirmed them at most `max_stale` seconds ago;
    `Written.degraded` is then True. With `verify`, a `Verifier`, it takes only signed files, from the server as from
    `state`. An https server is verified as by `CfgsyncClient`. Raises `TypeError` and `ValueError` for arguments that mean
    nothing; `FetchFailed` (its `outcome` says how), `IntegrityError` (nothing was written)
    and `DiskError`.

        outputs = ArtifactOutputMap().route("/config.yaml", "node-data/node-1/config.yaml")
        await fetch_and_write_artifacts(registration, "http://127.0.0.1:4400", outputs)
    """
    degrades = startup_mode is ConfigStartupMode.DEGRADED
    if degrades and state is None:
        raise ValueError("a degraded start needs `state`, the directory with the last good files")
    if not isinstance(outputs, ArtifactOutputMap | OutputDirectory):
        raise TypeError(
            f"outputs is an OutputDirectory(DIR), or an ArtifactOutputMap(), not {type(outputs).__name__}"
        )
    if wait is None:
        wait = WAIT if degrades else 300.0
    refuse_no_seconds("wait", wait)
    patience = Patience(time.monotonic() + wait)
    memory = None if state is None else NodeState(state, registration.identifier, verify=verify)
    seen = None
    if memory is not None:
        secret = secret or await wrap(memory.secret)()
        seen = await wrap(memory.seen)()
    async with CfgsyncClient(
        url,
        session=session,
        secret=secret,
        ca_file=ca_file,
        ca_hash=ca_hash,
        ssl_context=ssl_context,
        verify=verify,
    ) as client:
        try:
            fetched = await client.fetch(
                registration,
                wait=wait,
                seen=newest_generation(seen),
                seen_digest=None if seen is None else seen.digest,
            )
        except FetchFailed as error:
            if memory is None or not degrades or not isinstance(error.outcome, NotReadyInTime | Unreachable):
                raise
            return await wrap(_from_cache)(memory, max_stale, outputs, error)
        try:
            written = await wrap(write)(outputs.plan(fetched.payload.raw_files()), patience)
        except (IntegrityError, DiskError) as error:
            if memory is not None:
                await _acknowledge(client, registration, fetched, str(error))
            raise
        if memory is not None:
            await wrap(remember)(memory, fetched, warn)
            await _acknowledge(client, registration, fetched, None)
        return written


def refuse_no_seconds(name: str, value: float) -> None:
    """Raise `ValueError` for a negative number of seconds, or none at all (NaN)."""
    if not value >= 0:
        raise ValueError(f"{name}={value}: give a number of seconds, 0 or more")


def _from_cache(
    memory: NodeState,
    max_stale: float | None,
    outputs: ArtifactOutputMap | OutputDirectory,
    error: FetchFailed,
) -> Written:
    cached, _ = usable(memory, max_stale)
    if cached is None:
        raise error
    return msgspec.structs.replace(write(outputs.plan(cached.payload.raw_files())), degraded=True)


async def _acknowledge(
    client: CfgsyncClient, registration: NodeRegistration, fetched: Fetched, failure: str | None
) -> None:
    words = Acknowledgement.of(registration.identifier, fetched.generation, fetched.to_acknowledge, failure)
    if words is not None:
        await client.acknowledge(words)
