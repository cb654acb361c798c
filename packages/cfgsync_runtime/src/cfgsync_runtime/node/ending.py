"""How a fetch ends: an exit code for each outcome, and the object that `--json` prints."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from cfgsync_artifacts import DiskError
from cfgsync_core import (
    Fetched,
    IntegrityError,
    MissingForGood,
    NotReadyInTime,
    Refused,
    Rejected,
    Unreachable,
    Untrusted,
)
from cfgsync_core.node import Current

from .check import CheckRefused

EXIT: Final[dict[type, int]] = {
    Fetched: 0,
    Current: 0,
    Rejected: 2,
    NotReadyInTime: 3,
    MissingForGood: 4,
    Refused: 5,
    Untrusted: 6,
    IntegrityError: 6,
    Unreachable: 7,
    DiskError: 8,
    CheckRefused: 9,
}
"""The exit code of `cfgsync fetch` for each ending."""

REASON: Final = {
    2: "rejected",
    3: "not_ready",
    4: "missing_config",
    5: "refused",
    6: "integrity",
    7: "unreachable",
    8: "disk",
    9: "check",
}
"""The word for an exit code in `--json`."""


class Report(msgspec.Struct, frozen=True):
    """The object that `--json` prints; `files` are the paths on disk."""

    status: Literal["ready", "degraded", "failed"]
    exit: int
    identifier: str
    generation: str | None
    digest: str | None
    files: tuple[str, ...]
    reason: str | None
    message: str


class Ending(msgspec.Struct, frozen=True):
    """A report and what to do about it (`hint`, may be ""). `registered`: a server has accepted the registration.
    `acknowledged`: a server has answered the acknowledgement, or needs none. `for_others`: what an acknowledgement says of
    a failure, "" for the report's message. `on_trial`: the files replace good ones, and have to prove good."""

    report: Report
    hint: str = ""
    registered: bool = False
    acknowledged: bool = False
    for_others: str = ""
    on_trial: bool = False


def failed(identifier: str, code: int, message: str, hint: str, registered: bool = False) -> Ending:
    """The ending of a fetch that installed no files; `code` is its exit code."""
    return Ending(Report("failed", code, identifier, None, None, (), REASON[code], message), hint, registered)
