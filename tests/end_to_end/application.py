"""The application that the end-to-end tests serve: `cfgsync serve application:Fleet`, run in this directory.

Told by its environment: `NODES` how many must be here first, `CALLS` a file that gets a line for each call.
"""

from __future__ import annotations

import json
import os
import secrets
import time

from cfgsync_adapter import (
    ArtifactFile,
    ArtifactSet,
    MaterializationResult,
    MaterializedArtifacts,
    NotReady,
    RegistrationSnapshot,
)
from cfgsync_core import Condition


class Fleet:
    """Files for everybody once `NODES` are here: who they are with what they said of themselves, and a key drawn at
    random for each call. Metadata with the key `raise` makes it raise, `leave_out` gets no files."""

    def __init__(self) -> None:
        self.need = int(os.environ.get("NODES", "1"))
        self.calls = os.environ.get("CALLS")

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        have = len(registrations)
        if self.calls:
            with open(self.calls, "a") as file:
                file.write(f"{time.monotonic()} {have}\n")
        if have < self.need:
            quorum = Condition("quorum", have, self.need)
            return NotReady(f"waiting for {self.need} nodes, have {have}", (quorum,), retry_after=3600)
        key = secrets.token_hex(16)
        nodes = {}
        for r in registrations:
            words = r.metadata if isinstance(r.metadata, dict) else {}
            if "raise" in words:
                raise RuntimeError(str(words["raise"]))
            if "leave_out" not in words:
                nodes[r.identifier] = ArtifactSet(
                    [ArtifactFile("/node.txt", f"{r.identifier} {r.ip} {r.payload.raw_json()} {key}\n")]
                )
        members = {r.identifier: r.metadata for r in registrations}
        shared = ArtifactFile("/fleet.json", json.dumps({"key": key, "members": members}, sort_keys=True))
        return MaterializedArtifacts.from_nodes(nodes).with_shared([shared])
