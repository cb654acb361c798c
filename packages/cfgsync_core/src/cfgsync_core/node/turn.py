"""Where a watching node stands in a rollout: the group it takes turns in, the files on trial, and those it refused."""

from __future__ import annotations

import msgspec

from ..wire.headers import Mark, Turn


class RefusedFiles(msgspec.Struct, frozen=True):
    """Files that the node tried and went back from, of `generation` (None: a static source), and `why`."""

    generation: str | None
    digest: str
    why: str


class NodeTurn:
    """The turn of one node in `group`. `trial` is the digest of the files that its program has not proved yet, "" for none;
    `refused` are the files that it went back from, until others prove good."""

    def __init__(self, group: str, trial: str = "", refused: RefusedFiles | None = None) -> None:
        self.group = group
        self.trial = trial
        self.refused = refused

    def header(self, mark: Mark | None = None) -> str:
        """The value of `Cfgsync-Turn`, with another `mark` where one is given."""
        own: Mark = "trial" if self.trial else "refused" if self.refused is not None else "steady"
        return str(Turn(self.group, mark or own))

    def named(self, held: str) -> str:
        """The digest to name in a request by a node that holds the files `held`."""
        return self.refused.digest if self.refused is not None and not self.trial else held

    def has_refused(self, digest: str) -> bool:
        """Whether the node went back from these files."""
        return self.refused is not None and not self.trial and self.refused.digest == digest
