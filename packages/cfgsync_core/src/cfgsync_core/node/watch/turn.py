"""Where a watching node stands in a rollout: the group it takes turns in, the files on trial, and those it refused."""

from __future__ import annotations

import msgspec

from ...wire.headers import Turn


class RefusedFiles(msgspec.Struct, frozen=True):
    """Files that the node tried and went back from, of `generation` (None: a static source), `why`, and the last `words` of its
    program."""

    generation: str | None
    digest: str
    why: str
    words: str = ""


class NodeTurn:
    """The turn of one node in `group`. `trial` is the digest of the files that its program has not proved yet, "" for none;
    `refused` are the files that it went back from, until others prove good."""

    def __init__(self, group: str, trial: str = "", refused: RefusedFiles | None = None) -> None:
        self.group = group
        self.trial = trial
        self.refused = refused

    @property
    def went_back_from(self) -> RefusedFiles | None:
        """The refused files, unless others are on trial."""
        return None if self.trial else self.refused

    def header(self, is_failing: bool = False) -> str:
        """The value of `Cfgsync-Turn`; `is_failing`: the files that the node names could not be installed."""
        if is_failing or self.went_back_from is not None:
            return str(Turn(self.group, "refused"))
        return str(Turn(self.group, "trial" if self.trial else "steady"))

    def named(self, held: str) -> str:
        """The digest to name in a request by a node that holds the files `held`."""
        return held if self.went_back_from is None else self.went_back_from.digest

    def has_refused(self, digest: str) -> bool:
        """Whether the node went back from these files."""
        return self.went_back_from is not None and self.went_back_from.digest == digest
