"""How asking for files can end: one value each, with what happened (`message`) and what to do about it (`hint`)."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from cfgsync_artifacts import CfgsyncError

from ..wire.payload import NodeArtifactsPayload


class Fetched(msgspec.Struct, frozen=True):
    """The files, whole, checked by digest and not older than what the node has seen.

    `generation` is `<epoch>.<number>`, None for a static source or an original server. `notice` is a sentence that
    an operator should see (a new epoch), "" for none.
    """

    payload: NodeArtifactsPayload
    generation: str | None
    digest: str
    notice: str = ""
    message: str = "the files are here"
    hint: str = ""


class Current(msgspec.Struct, frozen=True):
    """The server confirmed (304) that the files with the digest that the node named are still its files."""

    generation: str | None
    digest: str
    notice: str = ""
    message: str = "the files are unchanged"
    hint: str = ""


class NotReadyInTime(msgspec.Struct, frozen=True):
    """The server answered to the end, but had no files yet; `reason` is what it said last."""

    reason: str
    message: str
    hint: str


class MissingForGood(msgspec.Struct, frozen=True):
    """This identifier will get nothing."""

    message: str
    hint: str


class Refused(msgspec.Struct, frozen=True):
    """The identifier belongs to another node, or the secret is not accepted."""

    message: str
    hint: str


class Untrusted(msgspec.Struct, frozen=True):
    """An answer that must not be written: undecodable, wrong digest, older than what was seen, over a limit.
    `generation` and `digest` are what it was said to be, None where it did not say."""

    message: str
    hint: str
    generation: str | None = None
    digest: str | None = None


class Rejected(msgspec.Struct, frozen=True):
    """The request itself is wrong for this server; the same one would be refused again."""

    message: str
    hint: str


class Unreachable(msgspec.Struct, frozen=True):
    """No server answered the question before the time was over."""

    message: str
    hint: str


Failure: TypeAlias = NotReadyInTime | MissingForGood | Refused | Untrusted | Rejected | Unreachable
Outcome: TypeAlias = Fetched | Current | Failure


class FetchFailed(CfgsyncError):
    """Files were asked for and did not come. `outcome` says how it ended, `hint` what to do."""

    def __init__(self, outcome: Failure) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome
        self.hint = outcome.hint
