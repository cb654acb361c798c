"""A node's way to its files as one call, for asyncio programs: register, wait, check, write whole."""

from __future__ import annotations

import asyncio

from aiohttp import ClientSession

from cfgsync_core import CfgsyncClient, NodeRegistration

from .outputs import ArtifactOutputMap, OutputDirectory, Written, write


async def fetch_and_write_artifacts(
    registration: NodeRegistration,
    url: str,
    outputs: ArtifactOutputMap | OutputDirectory,
    *,
    wait: float = 300.0,
    secret: str | None = None,
    session: ClientSession | None = None,
) -> Written:
    """Register at the server, wait up to `wait` seconds for the files, and bring them into place.

    `secret` is the node's own; without one its name stays unbound (`trust.md`). Raises `FetchFailed` (its `outcome`
    says how), `IntegrityError` (nothing was written) and `DiskError`.

        outputs = ArtifactOutputMap().route("/config.yaml", "node-data/node-1/config.yaml")
        await fetch_and_write_artifacts(registration, "http://127.0.0.1:4400", outputs)
    """
    async with CfgsyncClient(url, session=session, secret=secret) as client:
        payload = await client.register_and_fetch(registration, wait=wait)
    return await asyncio.to_thread(write, outputs.plan(payload.files))
