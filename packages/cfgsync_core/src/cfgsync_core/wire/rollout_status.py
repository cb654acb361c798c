"""How a generation reaches the nodes that take turns: the part `rollout` of `GET /status`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, get_args

import msgspec

from ..text import counted

RolloutState: TypeAlias = Literal["idle", "rolling", "canary", "paused", "halted"]
"""The state of a rollout: every node that takes turns has the current generation's files (`idle`); nodes take turns
(`rolling`); it waits for an operator after its first nodes (`canary`), or because an operator said so (`paused`); too many
nodes failed (`halted`)."""

_RolloutStateText: TypeAlias = Annotated[
    str, msgspec.Meta(extra_json_schema={"enum": [*get_args(RolloutState)]})
]


class FailedNode(msgspec.Struct, frozen=True):
    """A node that failed on `generation` and is not through yet, and why. `left_behind`: an operator resumed the rollout
    without it. `again`: an operator lets it try the same files again, and it has not asked yet. `words` are the last lines
    of its program, for operators and readers with a token only."""

    identifier: str
    reason: str
    generation: str
    left_behind: bool = False
    words: str = ""
    again: bool = False


class RolloutStatus(msgspec.Struct, frozen=True, kw_only=True, rename={"before": "from"}):
    """How a generation reaches the nodes that take turns. `from` is the last generation that all of them came through. Of
    `of` nodes, `through` have its files, `in_transition` have a turn, and `waiting` wait for one. `on_it` names the first
    that have a turn. `failed` are named until they are through. `since` is RFC 3339. `reason` says why nobody is
    given a turn, `""` while one is. `reverts` is the number of the generation whose files this one has again, 0 for none."""

    state: _RolloutStateText
    generation: str
    before: str | None = None
    through: int = 0
    of: int = 0
    in_transition: int = 0
    waiting: int = 0
    on_it: tuple[str, ...] = ()
    failed: tuple[FailedNode, ...] = ()
    since: str | None = None
    reason: str = ""
    reverts: int = 0

    @property
    def without_words(self) -> RolloutStatus:
        """For everybody: what a program writes may quote what is in a file."""
        failed = tuple(msgspec.structs.replace(one, words="") for one in self.failed)
        return msgspec.structs.replace(self, failed=failed)

    @property
    def is_stuck(self) -> bool:
        """It is halted, no node is about to try again, and not because of an earlier generation that this one may heal: an
        operator must decide."""
        failed = [one for one in self.failed if not one.left_behind]
        return (
            self.state == "halted"
            and not self.in_transition
            and not any(one.again for one in self.failed)
            and (not failed or any(one.generation == self.generation for one in failed))
        )

    @property
    def sentence(self) -> str:
        """`generation 7: halted, 3 of 12 nodes through, 1 failed; node-4 failed: exit status 1`."""
        counts = [f"{self.through} of {counted(self.of, 'node')} through"]
        counts += [f"{self.in_transition} in transition"] if self.in_transition else []
        counts += [f"{self.waiting} waiting"] if self.waiting else []
        counts += [f"{len(self.failed)} failed"] if self.failed else []
        again = f" (the files of generation {self.reverts} again)" if self.reverts else ""
        words = f"generation {self.generation.rpartition('.')[2]}{again}: {self.state}, {', '.join(counts)}"
        return f"{words}; {self.reason}" if self.reason else words

    @property
    def head(self) -> str:
        """The sentence to show above a list of the failed nodes, which has their reasons."""
        is_listed = self.state == "halted" and self.failed
        return msgspec.structs.replace(self, reason="").sentence if is_listed else self.sentence
