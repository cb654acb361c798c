"""Files on trial, and the refused ones, are remembered beside the last good payload, which they replace only when they
prove good (docs/reference/files.md)."""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from cfgsync_artifacts import Placed, on_disk, replace_files
from cfgsync_core import Fetched, Version
from cfgsync_core.node import RefusedFiles

from ..memory.sealed_file import sealed
from ..memory.state import PRIVATE, CachedPayload, KnownGeneration, NodeState

TRIAL = "trial"
REFUSED = "refused"


class _Refused(msgspec.Struct, frozen=True):
    generation: str | None
    digest: str
    why: str
    identifier: str
    words: str = ""


class TrialMemory:
    """The parts `trial` and `refused` of a node's memory. Its methods raise `DiskError`."""

    def __init__(self, state: NodeState) -> None:
        self._state = state

    def begin(self, fetched: Fetched, at: float) -> None:
        """These files are on trial from `at` on, in seconds since 1970."""
        epoch, number = Version.parse(fetched.generation) if fetched.generation else ("", fetched.revision)
        head = self._state.head(
            KnownGeneration(epoch, number, fetched.digest, at, signature=fetched.signature)
        )
        self._put(TRIAL, head, b"\n", *fetched.payload.chunks)

    def refuse(self, refused: RefusedFiles) -> None:
        """The node goes back from these files."""
        name = self._state.identifier
        note = _Refused(refused.generation, refused.digest, refused.why, name, refused.words)
        self._put(REFUSED, msgspec.json.encode(note))
        self._drop(TRIAL)

    def end(self) -> None:
        """The files that a trial was about are good, or others have replaced them."""
        self._drop(TRIAL)
        self._drop(REFUSED)

    def abandon(self) -> None:
        """The files of the trial did not come into place."""
        self._drop(TRIAL)

    def trial(self) -> CachedPayload | None:
        """The files on trial."""
        return self._state.part(TRIAL, self._state.cached_in)

    def refused(self) -> RefusedFiles | None:
        """The files that the node went back from last."""
        return self._state.part(REFUSED, self._refused_in)

    def _refused_in(self, body: bytes) -> RefusedFiles:
        note = msgspec.json.decode(body, type=_Refused)
        if note.identifier != self._state.identifier:
            raise ValueError(f"it is of the node {note.identifier!r}")
        return RefusedFiles(note.generation, note.digest, note.why, note.words)

    def _put(self, name: str, *body: bytes) -> None:
        self._state.make_directory()
        replace_files([Placed(self._state.directory, (name,), sealed(*body), PRIVATE)])

    def _drop(self, name: str) -> None:
        path = os.path.join(self._state.directory, name)
        with on_disk(path), suppress(FileNotFoundError):
            os.unlink(path)
