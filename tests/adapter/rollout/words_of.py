"""A fleet on paper for the functions of a rollout: what each node runs and has acknowledged, and who asks."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cfgsync_adapter.rollout.grants import answer, granted
from cfgsync_adapter.rollout.policy import Rollout
from cfgsync_adapter.rollout.settlement import begun, judged, late, settled, without
from cfgsync_adapter.rollout.words import NOTHING, Asking, Fleet, Spoken, Target, Words
from cfgsync_core import Version
from cfgsync_core.wire import Mark, Turn


def generation(number: int) -> Version:
    return Version("e", number)


class PaperFleet:
    """`given` maps generation → node → digest; a node that it does not name gets `d<number>`."""

    def __init__(self, names: Iterable[str], policy: Rollout | None = None, group: str = "default") -> None:
        self.policy = policy or Rollout(max_parallel=1)
        self.groups = dict.fromkeys(names, group)
        self.given: dict[int, dict[str, str]] = {}
        self.runs = dict.fromkeys(self.groups, "d1")
        self.mark: dict[str, Mark] = dict.fromkeys(self.groups, "steady")
        self.spoken: dict[str, Spoken] = {name: Spoken(1, generation(1)) for name in self.groups}
        self.healthy = dict(self.runs)
        self.revision = 1
        self.number = 1
        self.target = Target(generation(1))
        self.present: set[str] | None = None
        self.words = Words()
        self.settle()
        assert self.words.record.whole

    def digest(self, name: str) -> str:
        return self.given.get(self.number, {}).get(name, f"d{self.number}")

    def has(self, name: str) -> bool:
        return self.healthy.get(name) == self.digest(name) and self.mark[name] == "steady"

    def fleet(self) -> Fleet:
        groups: dict[str, set[str]] = {}
        for name, group in self.groups.items():
            groups.setdefault(group, set()).add(name)
        here = self.present
        return Fleet(
            self.target,
            groups,
            lambda name: self.spoken.get(name, NOTHING),
            self.has,
            [name for name, spoken in self.spoken.items() if spoken.failed_digest == self.digest(name)],
            None if here is None else {group: len(names & here) for group, names in groups.items()},
            lambda name: here is not None and name in here,
        )

    def publish(self, *, at_once: bool = False, reverts: int = 0, **given: str) -> None:
        """The next generation."""
        self.number += 1
        self.given[self.number] = given
        self.target = Target(generation(self.number), at_once, reverts)
        self.words = begun(self.words, self.target)
        self.settle()

    def settle(self, *well: str) -> None:
        self.words = settled(begun(self.words, self.target), self.fleet(), self.policy, well)

    def asking(self, name: str, *, starts: bool = False, turns: bool = True) -> Asking:
        turn = Turn(self.groups[name], self.mark[name]) if turns else None
        return Asking(name, self.digest(name), self.runs[name], turn, starts)

    def grant(self, *names: str) -> set[str]:
        """Those of these nodes (all, without names) that were given a turn now."""
        before = self.words.turns
        asking = [self.asking(name) for name in names or self.groups]
        self.words = granted(self.words, self.fleet(), self.policy, asking)
        return {name for name, turn in self.words.turns.items() if before.get(name) != turn}

    def answer(self, name: str, *, starts: bool = False, turns: bool = True) -> str:
        return answer(self.words, self.target, self.policy, self.asking(name, starts=starts, turns=turns))

    def take(self, name: str) -> None:
        """The node gets its files and changes: it is on trial."""
        assert self.answer(name) == "files"
        self.runs[name], self.mark[name] = self.digest(name), "trial"

    def apply(self, name: str) -> None:
        """The node is healthy on what it runs, and says so."""
        self.healthy[name] = self.runs[name]
        self._say(name, Spoken(0, self._made_of(name)))
        self.mark[name] = "steady"
        self.settle()

    def fail(self, name: str, reason: str = "exit 1") -> None:
        """The node is not healthy on what it runs: it goes back, and says so."""
        before = self.spoken[name]
        failed, digest = self._made_of(name), self.runs[name]
        self._say(name, Spoken(0, before.applied, failed, digest, reason))
        self.mark[name] = "refused"

    def expire(self, name: str) -> None:
        self.words = without(self.words, {name})
        del self.groups[name]
        self.spoken.pop(name, None)
        self.words = judged(self.words, self.fleet(), self.policy)

    def be_late(self, *names: str) -> None:
        self.words = late(self.words, names, self.fleet(), self.policy, "5m")

    def roll(self) -> list[set[str]]:
        """Let everybody change, each wave healthy before the next; returns the waves."""
        waves = []
        while wave := self.grant():
            waves.append(wave)
            for name in wave:
                self.take(name)
            for name in wave:
                self.apply(name)
        return waves

    def _made_of(self, name: str) -> Version:
        turn = self.words.turns.get(name)
        return turn.generation if turn is not None else self.target.generation

    def _say(self, name: str, spoken: Spoken) -> None:
        self.revision += 1
        self.spoken[name] = msgspec.structs.replace(spoken, revision=self.revision)
        self.settle()

    @property
    def phase(self) -> str:
        return self.words.record.phase
