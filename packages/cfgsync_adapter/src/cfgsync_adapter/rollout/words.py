"""The durable words of a rollout, and what else a decision about it reads. No clock and no store is in them.

Every decision is a function `Words → Words` (`settlement`, `grants`, `commands`). Its caller commits the difference
(`Step`), which expects the revision of `state` that it has read and always writes `state`: two servers that decide at the
same time never both succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal, TypeAlias

import msgspec

from cfgsync_core import NEVER, Version
from cfgsync_core.wire import Turn

STATE = "state"
TURN = "turn/"
OUTCOME = "outcome/"
OUTCOMES = 100
"""The store keeps how so many rollouts ended, in a ring."""

Phase: TypeAlias = Literal["rolling", "canary", "paused", "halted"]

Ended: TypeAlias = Literal["", "failed", "late"]
"""How a turn ended badly: the node said so, or said nothing until the deadline. `""`: it has not ended."""


class Failed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node that failed on `generation`, in whose place it still counts until it is through, and the last `words` of its
    program. `digests` are the files that
    have failed on it; those of a `late` node have not failed, since it has said nothing. `again`: an operator lets it try
    the same files once more."""

    generation: Version
    reason: str
    digests: tuple[str, ...] = ()
    words: str = ""
    late: bool = False
    again: bool = False


class GivenTurn(msgspec.Struct, frozen=True, omit_defaults=True, tag="turn"):
    """A node's leave to change to the files `digest` of `generation`. `after` is the revision of its acknowledgement at
    that moment: an older one does not end this turn. `again`: an operator lets the node try files that it has refused.
    A turn that has `ended` badly keeps its place until the node is
    through, or an operator frees it."""

    generation: Version
    group: str
    digest: str
    after: int = 0
    ended: Ended = ""
    again: bool = False


class Record(msgspec.Struct, frozen=True, omit_defaults=True, tag="state"):
    """Key `state`: the rollout of one generation.

    `before` is the last generation that everybody came through. `through` counts by group the nodes that ended a turn for
    this generation well. `failed` and `left_behind` (by an operator's `resume`) are the nodes that failed and are not
    through yet. `halted`, `paused` and `at_canary` stop it. `past_canary`: an operator has resumed. `promoted`: everybody
    gets it now. `reverting`: it is halted, and the generation with the content of that one comes next. `reverts`: this one
    has the content of that one. `whole`: everybody came through. `steps` counts the commits of the record.
    """

    generation: Version = NEVER
    before: Version = NEVER
    through: dict[str, int] = {}
    failed: dict[str, Failed] = {}
    left_behind: dict[str, Failed] = {}
    halted: bool = False
    paused: bool = False
    at_canary: bool = False
    past_canary: bool = False
    promoted: bool = False
    reverting: int = 0
    reverts: int = 0
    whole: bool = False
    since_ms: int = 0
    steps: int = 0

    @property
    def phase(self) -> Phase:
        """What stops it, the strongest first."""
        if self.halted:
            return "halted"
        if self.paused:
            return "paused"
        return "canary" if self.at_canary else "rolling"

    def failure_of(self, identifier: str) -> Failed | None:
        """How this node failed, None when it did not, or is through."""
        return self.failed.get(identifier) or self.left_behind.get(identifier)


class Words(msgspec.Struct, frozen=True):
    """What is durable: the record, and the turns that are out, by node."""

    record: Record = Record()
    turns: Mapping[str, GivenTurn] = {}


class Target(msgspec.Struct, frozen=True):
    """The current generation. `at_once`: everybody gets it now. `reverts`: it has the content of that generation."""

    generation: Version
    at_once: bool = False
    reverts: int = 0


class Spoken(msgspec.Struct, frozen=True):
    """What a node has acknowledged, durably, last at `revision` of the acknowledgements: the generation that it `applied`,
    and the one on which it `failed` since then, with the digest of its files."""

    revision: int = 0
    applied: Version | None = None
    failed: Version | None = None
    failed_digest: str = ""
    reason: str = ""
    words: str = ""


NOTHING = Spoken()


class Fleet(msgspec.Struct, frozen=True):
    """What a decision reads besides the words: the current generation, the registered nodes that take turns by group, what
    each has acknowledged, and whether a node `has` what the current generation gives it (also when that is nothing).

    `failing` are those that failed on the files that they are given now. `present` counts by group those that were heard of within
    `PRESENCE` seconds, for which `is_present` is true; None when other servers may have heard of others, and the rule of
    the majority does not hold.
    """

    target: Target
    groups: Mapping[str, Collection[str]]
    spoken: Callable[[str], Spoken]
    has: Callable[[str], bool]
    failing: Collection[str] = ()
    present: Mapping[str, int] | None = None
    is_present: Callable[[str], bool] = lambda identifier: False

    def count(self, group: str, identifier: str) -> int:
        """How many nodes the group has with this one, which may be new in it."""
        members = self.members(group)
        return len(members) + (identifier not in members)

    def members(self, group: str) -> Collection[str]:
        """The nodes of a group."""
        return self.groups.get(group, ())

    @property
    def size(self) -> int:
        """How many nodes take turns."""
        return sum(map(len, self.groups.values()))


class Asking(msgspec.Struct, frozen=True):
    """A node's question, which the current generation answers with the files `digest`. `known` is the digest that it names
    (None: it has no files), `turn` what it says of itself (None: it takes no turns). `starts`: its program does not run
    yet."""

    identifier: str
    digest: str
    known: str | None
    turn: Turn | None = None
    starts: bool = False


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """How the rollout of generation `number` ended: `rolled out`, `halted`, `reverted by 14`."""

    number: int
    words: str


class Step(msgspec.Struct, frozen=True):
    """What to commit: `state`, the turns that changed (None: gone), and how a rollout ended, if one did."""

    state: Record
    turns: Mapping[str, GivenTurn | None]
    outcomes: tuple[Outcome, ...] = ()

    @classmethod
    def between(cls, before: Words, after: Words, again: Collection[str] = ()) -> Step | None:
        """The step from one to the other, which writes the turns of the nodes `again` also when they are equal; None for
        nothing to write."""
        if before == after and not again:
            return None
        old, new = before.turns, after.turns
        turns: dict[str, GivenTurn | None] = {
            name: turn for name, turn in new.items() if old.get(name) != turn or name in again
        }
        turns.update(dict.fromkeys(name for name in old if name not in new))
        return cls(
            msgspec.structs.replace(after.record, steps=before.record.steps + 1),
            turns,
            _outcomes(before.record, after.record),
        )

    def writes(self) -> dict[str, Record | GivenTurn | Outcome | None]:
        """The same by key."""
        return {
            STATE: self.state,
            **{TURN + name: turn for name, turn in self.turns.items()},
            **{f"{OUTCOME}{one.number % OUTCOMES:02}": one for one in self.outcomes},
        }


def _outcomes(before: Record, after: Record) -> tuple[Outcome, ...]:
    number = after.generation.revision
    found = []
    if before.generation != after.generation and after.reverts:
        taken_back = range(max(after.reverts + 1, number - OUTCOMES + 1), number)
        found += [Outcome(one, f"reverted by {number}") for one in taken_back]
    if after.whole and not (before.whole and before.generation == after.generation):
        found.append(Outcome(number, "rolled out"))
    if after.halted and not before.halted and not after.reverting:
        found.append(Outcome(number, "halted"))
    return tuple(found)
