"""The outcomes of fetching files: one value each, with what happened (`message`) and what to do about it (`hint`)."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from cfgsync_artifacts import CfgsyncError

from ..store.contract import NEVER, Version
from ..wire.payload import NodeArtifactsPayload


class Fetched(msgspec.Struct, frozen=True):
    """The files, whole, checked by digest and not older than what the node has seen.

    `generation` is `<epoch>.<number>`, None for a static source or an original server. `to_acknowledge` is the digest
    again, None for an original server: it names none, and takes no acknowledgement. `notice` is a sentence for the
    operator (a new epoch), or "". `signature` came with the files, "" without one, and `revision` is that of a static
    source as it was signed, 0 when nothing was verified.
    """

    payload: NodeArtifactsPayload
    generation: str | None
    digest: str
    notice: str = ""
    message: str = "the files are here"
    hint: str = ""
    to_acknowledge: str | None = None
    signature: str = ""
    revision: int = 0


class Current(msgspec.Struct, frozen=True):
    """The server confirmed (304) that the files with the digest that the node named are still its files; with `waits_for`,
    that it is to keep them until its turn for this later generation."""

    generation: str | None
    digest: str
    notice: str = ""
    message: str = "the files are unchanged"
    hint: str = ""
    signature: str = ""
    waits_for: str = ""


class AppliedFiles(msgspec.Struct, frozen=True):
    """The files in place: the generation that a server confirmed last (`NEVER` without generations), and the digest."""

    version: Version
    digest: str

    @property
    def generation(self) -> str | None:
        """The generation as text; None without one."""
        return None if self.version == NEVER else str(self.version)


class Failure(msgspec.Struct, frozen=True):
    """No files."""

    message: str
    hint: str


class NotReadyInTime(Failure, frozen=True):
    """The server answered, but had no files before the time was over; `reason` is what it said last."""

    reason: str


class MissingForGood(Failure, frozen=True):
    """This identifier will get nothing."""


class Refused(Failure, frozen=True):
    """The identifier belongs to another node, or the secret is not accepted."""


class Untrusted(Failure, frozen=True):
    """An answer that must not be written: undecodable, wrong digest, older than what was seen, over a limit.
    `generation` and `digest` are those that the answer names, if it does."""

    generation: str | None = None
    digest: str | None = None


class Rejected(Failure, frozen=True):
    """The request itself is wrong for this server; the same one would be rejected again."""


class Unreachable(Failure, frozen=True):
    """No server answered before the time was over."""


Outcome: TypeAlias = Fetched | Current | Failure
"""How fetching files ended."""


class FetchFailed(CfgsyncError):
    """Fetching ended without files. `outcome` says how, `hint` what to do."""

    def __init__(self, outcome: Failure) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome
        self.hint = outcome.hint
