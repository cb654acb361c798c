"""A model of a rollout: nodes, servers with views that lag, lost answers, repeated words, deaths, operators.

The product's own functions decide (`Rules`); what stands around them in the product (mirrors, HTTP, clocks) is here a few
steps in any order. `World.steps()` lists the steps that are possible, `World.take(step)` makes one and raises `Broken` when
an invariant of `rollout.md` does not hold after it. RO-11, a node's own files, is tested with real processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import msgspec

from cfgsync_adapter.rollout import commands, grants, settlement
from cfgsync_adapter.rollout.policy import Rollout
from cfgsync_adapter.rollout.words import Asking, Fleet, Spoken, Step, Target, Words
from cfgsync_core import Version
from cfgsync_core.wire import Mark, Turn

EPOCH = "e"
OPERATOR = ("pause", "resume", "retry", "promote")
Move = tuple[Any, ...]


class Broken(AssertionError):
    """An invariant does not hold."""


class Rules(NamedTuple):
    """The functions that decide, and what a server does around them; a sabotage changes one."""

    grants: Any = grants
    settlement: Any = settlement
    commands: Any = commands
    compares_and_sets: bool = True
    commits_before_answers: bool = True
    writes_the_turn_again: bool = True
    """Also the second 200 under a turn follows a commit that writes it."""
    reads_what_is_named: bool = True
    """A server that is behind the generation that a node names in its question reads the store first."""
    retry_forgets: bool = True
    has_deadline: bool = True
    halts_with_the_mark: bool = True
    freezes_first: bool = True


class Content(NamedTuple):
    """A generation: what each node gets. A `fault` is "" or the node that cannot run it, `*` for all."""

    digest: str
    fault: str = ""
    at_once: bool = False
    reverts: int = 0


class Trial(NamedTuple):
    generation: int
    digest: str


class Node:
    """A node's durable notes, and its one question."""

    def __init__(self, name: str, group: str) -> None:
        self.name, self.group = name, group
        self.is_up, self.starts, self.is_here = True, False, True
        self.told: str | None = "d1"
        self.good: str | None = "d1"
        self.trial: Trial | None = None
        self.refused: Trial | None = None
        self.says: Spoken | None = None
        """The acknowledgement that it repeats until it is answered."""
        self.says_digest = ""
        self.asks: tuple[int, int] | None = None
        """The server and the number of the question that it waits for."""
        self.newest = self.noted = 1
        """The newest generation that it has seen, and what of that is durable: no trial, and nothing refused."""
        self.goes_back = True
        """It takes the last good files back; False for one whose `--reload-command` fails: that is tried for ever."""
        self.is_changing = False
        """It ran, was given other files under a turn, and does not run well again yet."""

    @property
    def mark(self) -> Mark:
        return "trial" if self.trial else "refused" if self.refused else "steady"

    @property
    def names(self) -> str | None:
        """What it names in `If-None-Match`."""
        return self.refused.digest if self.refused and not self.trial else self.told


class Question(NamedTuple):
    number: int
    asking: Asking


class Reply(NamedTuple):
    question: int
    generation: int
    digest: str
    is_files: bool
    in_turn: bool


class Server:
    """What one server has read, and the questions that it holds."""

    def __init__(self) -> None:
        self.words = Words()
        self.spoken: dict[str, tuple[Spoken, str]] = {}
        self.groups: dict[str, str] = {}
        self.generation = 1
        self.questions: dict[str, Question] = {}


class World:
    """Starts with a fleet that runs generation 1. `groups` maps each node to its group."""

    def __init__(
        self, groups: Mapping[str, str], servers: int, policy: Rollout, rules: Rules | None = None
    ) -> None:
        self.policy, self.rules = policy, rules or Rules()
        self.contents = [Content("d1")]
        self.nodes = {name: Node(name, group) for name, group in groups.items()}
        self.groups = dict(groups)
        first = version(1)
        self.spoken = {name: (Spoken(1, first), "d1") for name in groups}
        self.revision = 1
        self.words = Words()
        self.servers = [Server() for _ in range(servers)]
        self.replies: dict[str, Reply] = {}
        self.asked = 0
        self.given_at: dict[str, int] = {}
        """The last question that was asked before a node's turn was given."""
        self.is_ordered = False
        """An operator's command is being carried out."""
        self.disturbed: dict[str, set[str]] = {}
        self.vouched: set[str] = set()
        """Files that a node without any has started with: the first files are not on trial, so bad ones may seem good."""
        self.well = {"d1": set(groups)}
        """The nodes that have been healthy on these files."""
        self.reverted: set[str] = set()
        self.awaited: Content | None = None
        """What a revert is about to publish."""
        for number in range(servers):
            self._read(number)
        self._decide(0)
        if not self.words.record.whole:
            raise Broken("the fleet does not begin whole")

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def copy(self) -> World:
        """The same world, which goes on by itself."""
        rules, self.rules = self.rules, Rules()
        try:
            other = deepcopy(self, {id(self.rules): self.rules})
        finally:
            self.rules = rules
        other.rules = rules
        return other

    def steps(self) -> list[Move]:
        """What may happen next: the ordinary steps, then faults."""
        return [*self.ordinary(), *self.faults()]

    def ordinary(self) -> list[Move]:
        """What happens without faults, operators and new generations."""
        found: list[Move] = [] if self.awaited is None else [("publish_revert",)]
        for number, server in enumerate(self.servers):
            if server.questions:
                found.append(("serve", number))
            if self._lags(server):
                found.append(("read", number))
        for name, node in self.nodes.items():
            if not node.is_up:
                continue
            if name in self.replies:
                found.append(("hear", name))
            elif node.asks is None:
                found += [("ask", name, number) for number in range(len(self.servers))]
            if node.trial is not None and not node.starts:
                found.append(("finish", name))
            if node.says is not None:
                found += [("say", name, number, True) for number in range(len(self.servers))]
        return found

    def faults(self) -> list[Move]:
        """Deaths, losses, deadlines."""
        found: list[Move] = []
        for name, node in self.nodes.items():
            found.append(("die", name) if node.is_up else ("start", name))
            if not node.is_up:
                found.append(("lose_disk", name))
            if node.asks is not None:
                found.append(("cut", name))
            if node.is_up and node.says is not None:
                found += [("say", name, number, False) for number in range(len(self.servers))]
            if node.is_here and len(self.groups) > 1:
                found.append(("leave", name))
        if self.rules.has_deadline:
            found += [("late", name, n) for n, s in enumerate(self.servers) for name in _running(s.words)]
        found += [("pass", name, n) for n, s in enumerate(self.servers) for name in self._let_pass(s)]
        found += [("restart", number) for number in range(len(self.servers))]
        return found

    def take(self, step: Move) -> None:
        """Make one step. Raises `Broken`."""
        what, *rest = step
        getattr(self, f"do_{what}")(*rest)

    # ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def do_ask(self, name: str, server: int) -> None:
        node = self.nodes[name]
        self.asked += 1
        node.asks = server, self.asked
        if not node.is_here:  # it registers again
            node.is_here = True
            self.groups[name] = node.group
        seen = node.noted if node.starts else node.newest
        if self.rules.reads_what_is_named and seen > self.servers[server].generation:
            self._read(server)
        digest = self.contents[self.servers[server].generation - 1].digest
        asking = Asking(name, digest, node.names, Turn(node.group, node.mark), node.starts)
        self.servers[server].questions[name] = Question(self.asked, asking)

    def do_cut(self, name: str) -> None:
        """The connection is lost, with the answer if there was one. The server goes on holding the question."""
        self.nodes[name].asks = None
        self.replies.pop(name, None)

    def do_hear(self, name: str) -> None:
        node, reply = self.nodes[name], self.replies.pop(name)
        node.asks = None
        if reply.is_files:
            self._check_files(node, reply)
            self._change(node, reply)
            return
        is_news = node.starts or node.says_digest != reply.digest
        node.starts = False
        if node.mark == "steady" and reply.digest == node.told and reply.generation and is_news:
            node.says, node.says_digest = Spoken(0, version(reply.generation)), reply.digest
        if node.mark == "steady" and reply.digest == node.told:
            node.newest = node.noted = max(node.newest, reply.generation)

    def _change(self, node: Node, reply: Reply) -> None:
        if reply.generation < (node.noted if node.starts else node.newest):
            raise Broken(f"RO-6: {node.name} is given {reply.generation} after {node.newest}")
        node.newest = max(node.newest, reply.generation)
        was_new = node.told is None
        if not (was_new or node.starts) and reply.in_turn:
            node.is_changing = True
            self._check_places(node)
        node.starts = False
        node.told = reply.digest
        node.trial = Trial(reply.generation, reply.digest)
        if was_new:
            self.do_finish(node.name, is_first=True)

    def do_finish(self, name: str, *, is_first: bool = False) -> None:
        """The trial ends, well or badly. First files are not on trial."""
        node = self.nodes[name]
        assert node.trial is not None
        trial, node.trial, node.is_changing = node.trial, None, False
        if is_first or self._runs(name, trial.digest):
            node.good, node.refused = trial.digest, None
            node.noted = trial.generation
            self.well.setdefault(trial.digest, set()).add(name)
            if is_first:
                self.vouched.add(trial.digest)
            node.says = Spoken(0, version(trial.generation))
            node.says_digest = trial.digest
        else:
            if node.goes_back:
                node.told, node.refused = node.good, trial
            else:
                node.trial = trial
            node.says = Spoken(0, None, version(trial.generation), trial.digest, "exit 1")

    def do_say(self, name: str, server: int, is_heard: bool) -> None:
        """The acknowledgement is durable; the node hears of it, or says it again later."""
        node = self.nodes[name]
        says = node.says
        assert says is not None
        before, digest = self.spoken.get(name, (Spoken(), ""))
        same = (says.applied, says.failed) == (before.applied, before.failed)
        if node.is_here and not same:
            self.revision += 1
            if says.failed is None:
                self.spoken[name] = Spoken(self.revision, says.applied), node.says_digest
            else:
                new = msgspec.structs.replace(says, revision=self.revision, applied=before.applied)
                self.spoken[name] = new, digest
        if is_heard and node.is_here:
            node.says = None
        self._read(server)
        self._decide(server)

    def do_die(self, name: str) -> None:
        node = self.nodes[name]
        node.is_up, node.asks, node.is_changing = False, None, False
        self.replies.pop(name, None)

    def do_start(self, name: str) -> None:
        node = self.nodes[name]
        node.is_up, node.starts, node.newest = True, node.told is not None, node.noted
        if node.says is None:
            node.says_digest = ""
        if node.refused is not None and node.says is None:
            node.says = Spoken(0, None, version(node.refused.generation), node.refused.digest, "exit 1")

    def do_lose_disk(self, name: str) -> None:
        node = self.nodes[name]
        node.told = node.good = node.trial = node.refused = node.says = None
        node.newest = node.noted = 0

    def do_leave(self, name: str) -> None:
        """It is evicted, or expires: its turn goes first, in a commit of its own."""
        self._read(0)
        server = self.servers[0]
        if name in server.words.turns:
            self._commit(server, self.rules.settlement.without(server.words, {name}))
        node = self.nodes[name]
        self.do_die(name)
        if node.trial is not None or node.says is not None:  # nobody hears what became of it
            for disturbed in self.disturbed.values():
                disturbed.discard(name)
        node.is_here = False
        node.says = None
        self.groups.pop(name, None)
        self.spoken.pop(name, None)

    # ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def do_read(self, number: int) -> None:
        self._read(number)

    def do_restart(self, number: int) -> None:
        self.servers[number].questions.clear()
        self._read(number)

    def do_serve(self, number: int) -> None:
        """Decide, commit, answer what can be answered."""
        if not self._decide(number) and self.rules.commits_before_answers:
            return
        server = self.servers[number]
        for name, question in list(server.questions.items()):
            asking = self._now(server, question)
            if server.words.record.generation > version(server.generation):
                continue
            got = self.rules.grants.answer(server.words, self._target(server), self.policy, asking)
            if asking.known is None and got != "files":
                raise Broken(f"RO-3: {name} has no files and is answered {got}")
            if got == "kept" and not asking.starts:
                continue
            runs = got == "files" and asking.known is not None and not asking.starts
            in_turn = runs and self._is_in_turn(server)
            if runs and not self._may_give(number, in_turn):
                continue
            is_stopped = server.words.record.phase == "halted" and not self._target(server).at_once
            is_stopped = is_stopped and self.policy.mode != "all" and name not in server.words.turns
            if got == "files" and asking.known is not None and asking.starts and is_stopped:
                raise Broken(f"RO-4: {name} starts with {asking.digest} while it is halted")
            if in_turn and asking.digest in self.reverted:
                raise Broken(f"RO-7: {name} is given {asking.digest}, which was taken back")
            del server.questions[name]
            if self.nodes[name].asks == (number, question.number):
                kept = got == "kept"
                self.replies[name] = Reply(
                    question.number,
                    0 if kept else server.generation,
                    asking.digest,
                    got == "files",
                    in_turn,
                )

    def do_late(self, name: str, number: int) -> None:
        """This turn has been out for the whole deadline at this server."""
        server, settle = self.servers[number], self.rules.settlement
        if server.words.record.generation > version(server.generation):
            return
        fleet = self._fleet(server)
        words = settle.settled(settle.begun(server.words, fleet.target), fleet, self.policy, ())
        marked = settle.late(words, [name], fleet, self.policy, "5m")
        if not self.rules.halts_with_the_mark:
            marked = Words(settle.replaced(marked.record, halted=words.record.halted), marked.turns)
            asking = [self._now(server, one) for one in server.questions.values()]
            marked = self.rules.grants.granted(marked, fleet, self.policy, asking)
        self._commit(server, marked)

    def do_pass(self, name: str, number: int) -> None:
        server = self.servers[number]
        self._commit(server, self.rules.settlement.passed(server.words, [name]))

    def _decide(self, number: int) -> bool:
        server = self.servers[number]
        settle = self.rules.settlement
        if server.words.record.generation > version(server.generation):
            self._read(number)
        fleet = self._fleet(server)
        asking = [self._now(server, one) for one in server.questions.values()]
        well = [
            one.identifier
            for one in asking
            if one.turn is not None
            and one.turn.mark == "steady"
            and one.known == one.digest
            and not one.starts
        ]
        words = settle.settled(settle.begun(server.words, fleet.target), fleet, self.policy, well)
        words = self.rules.grants.granted(words, fleet, self.policy, asking)
        if not self.rules.commits_before_answers:
            server.words = words  # and it dies before the commit
            return True
        return self._commit(server, words)

    def _may_give(self, number: int, in_turn: bool) -> bool:
        """Whether a running node may be given files now. In a turn, that takes a commit of this turn, which fails when others
        have changed the words."""
        has_read = self.servers[number].words.record.steps == self.words.record.steps
        if not in_turn or has_read or not self.rules.writes_the_turn_again:
            return True
        self._read(number)
        return False

    def _commit(self, server: Server, words: Words) -> bool:
        """Write `state` and the turns that changed; False when another server was faster."""
        step = Step.between(server.words, words)
        if step is None:
            return True
        is_stale = server.words.record.steps != self.words.record.steps
        if is_stale and self.rules.compares_and_sets:
            self._read(self.servers.index(server))
            return False
        before = self.words
        turns = {name: turn for name, turn in {**self.words.turns, **step.turns}.items() if turn is not None}
        self.words = Words(step.state, turns)
        server.words = self.words
        self._check_commit(before, self.words)
        return True

    def _read(self, number: int) -> None:
        server = self.servers[number]
        server.words, server.spoken = self.words, dict(self.spoken)
        server.groups, server.generation = dict(self.groups), len(self.contents)

    def _lags(self, server: Server) -> bool:
        return (
            server.words != self.words
            or server.generation != len(self.contents)
            or server.spoken != self.spoken
            or server.groups != self.groups
        )

    def _let_pass(self, server: Server) -> list[str]:
        """Nodes that asked again, steady, after their turn was given, and hold no answer of it."""
        found = []
        for name, question in server.questions.items():
            turn, asking = server.words.turns.get(name), question.asking
            if turn is None or turn.ended or asking.turn is None or asking.turn.mark != "steady":
                continue
            is_awaited = self.nodes[name].asks is not None and self.nodes[name].asks[1] == question.number
            if is_awaited and question.number > self.given_at.get(name, 0) and name not in self.replies:
                found.append(name)
        return found

    # ── what decisions read ──────────────────────────────────────────────────────────────────────────────────────────

    def _fleet(self, server: Server) -> Fleet:
        groups: dict[str, list[str]] = {}
        for name, group in server.groups.items():
            groups.setdefault(group, []).append(name)
        digest = self.contents[server.generation - 1].digest
        spoken = server.spoken
        return Fleet(
            self._target(server),
            groups,
            lambda name: spoken.get(name, (Spoken(), ""))[0],
            lambda name: name in spoken and spoken[name][1] == digest and spoken[name][0].failed is None,
            [
                name
                for name, (word, _) in spoken.items()
                if word.failed is not None and word.failed_digest == digest
            ],
        )

    def _target(self, server: Server) -> Target:
        content = self.contents[server.generation - 1]
        return Target(version(server.generation), content.at_once, content.reverts)

    def _now(self, server: Server, question: Question) -> Asking:
        digest = self.contents[server.generation - 1].digest
        return msgspec.structs.replace(question.asking, digest=digest)

    def _is_in_turn(self, server: Server) -> bool:
        record = server.words.record
        return not (record.promoted or self.policy.mode == "all" or self._target(server).at_once)

    def _runs(self, name: str, digest: str) -> bool:
        return not any(one.digest == digest and one.fault in ("*", name) for one in self.contents)

    # ── operators and applications ───────────────────────────────────────────────────────────────────────────────────

    def do_publish(self, content: Content) -> None:
        self.contents.append(content)
        if not content.reverts:
            self.reverted.discard(content.digest)

    def do_command(self, what: str, number: int) -> None:
        self._read(number)
        server = self.servers[number]
        words = self.rules.settlement.begun(server.words, self._target(server))
        if (
            what == "retry" and self.rules.retry_forgets
        ):  # the failures that nodes have said are forgotten, durably and first
            for name in words.record.failed | words.record.left_behind:
                if name in self.spoken and self.spoken[name][0].failed is not None:
                    self.revision += 1
                    word, digest = self.spoken[name]
                    self.spoken[name] = Spoken(self.revision, word.applied), digest
        if what != "pause":
            self.disturbed.clear()
        if what in ("resume", "promote") and self.rules.freezes_first and self.awaited is not None:
            self.awaited = None  # the revert is called off
            self.reverted.clear()
        self._read(number)
        self.is_ordered = True
        self._commit(server, getattr(self.rules.commands, what)(words))
        self.is_ordered = False

    def do_repair(self) -> None:
        """The nodes were at fault, not the files: they run everything from now on."""
        self.contents = [one._replace(fault="") for one in self.contents]

    def do_revert(self, to: int, number: int) -> None:
        """Halt. The content of generation `to` is published under the next number after that."""
        bad = {one.digest for one in self.contents[to:]}
        wanted = self.contents[to - 1]
        self.awaited = Content(wanted.digest, "", False, to)
        self.reverted = bad - {wanted.digest}
        if not self.rules.freezes_first:
            self.do_publish_revert()
            return
        self._read(number)
        server = self.servers[number]
        words = self.rules.settlement.begun(server.words, self._target(server))
        self._commit(server, self.rules.commands.halt_to_revert(words, to))

    def do_publish_revert(self) -> None:
        """The second half."""
        assert self.awaited is not None
        self.do_publish(self.awaited)
        self.awaited = None

    # ── invariants ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_commit(self, before: Words, after: Words) -> None:
        given = [name for name, turn in after.turns.items() if _is_given(before.turns.get(name), turn)]
        for group in {after.turns[name].group for name in given}:
            out = [
                name
                for name, turn in after.turns.items()
                if turn.group == group and (turn.ended != "failed" or not _are_failed(before, given))
            ]
            places = self.policy.places(len(self.groups))
            if len(out) > places:
                raise Broken(f"RO-1: turns of {out} in a group with {places} places")
            others = sum(turn.group == group and not turn.ended for turn in after.turns.values()) - 1
            digest = self.contents[after.record.generation.revision - 1].digest
            through = sum(self.nodes[name].group == group for name in self.well.get(digest, ()))
            if not after.record.reverts and others >= max(1, through):
                raise Broken(f"RO-2: {others} others on trial, {through} came through")
        for name in given:
            self.given_at[name] = self.asked
        for name, turn in before.turns.items():
            if turn.ended and name not in after.turns:  # an operator has freed it, whatever the node does
                self.nodes[name].is_changing = False
                if name in self.replies:
                    self.replies[name] = self.replies[name]._replace(in_turn=False)
        if before.record.halted and not after.record.halted and not self.is_ordered:
            ill = [
                name
                for name, one in before.record.failed.items()
                if not self._is_through(name, one.generation)
            ]
            if ill and not after.record.reverts:
                raise Broken(f"RO-10: the halt ends while {ill} are not through")

    def _is_through(self, name: str, generation: Version) -> bool:
        word, _ = self.spoken.get(name, (Spoken(), ""))
        node = self.nodes[name]
        newer = {one.digest for one in self.contents[generation.revision - 1 :]}
        has_newest = node.good in newer or any(
            name in self.well.get(one, ()) for one in newer
        )  # also before it left
        return has_newest or (word.failed is None and word.applied is not None and word.applied >= generation)

    def has_failed(self, name: str) -> bool:
        """The node's last word is a failure."""
        return name in self.spoken and self.spoken[name][0].failed is not None

    def _check_places(self, node: Node) -> None:
        changing = [one.name for one in self.nodes.values() if one.is_changing and one.group == node.group]
        places = self.policy.places(sum(one == node.group for one in self.groups.values()))
        if len(changing) > places:
            raise Broken(f"RO-1: {changing} change at the same time, {places} may")

    def _check_files(self, node: Node, reply: Reply) -> None:
        is_retry = node.refused is not None and node.refused.digest == reply.digest
        if node.told is None or node.starts or is_retry or not reply.in_turn:
            return
        is_bad = any(one.digest == reply.digest and one.fault == "*" for one in self.contents)
        if not is_bad or reply.digest in self.vouched:
            return
        disturbed = self.disturbed.setdefault(reply.digest, set())
        disturbed.add(node.name)
        may = len({one.group for one in self.nodes.values()}) + self.policy.failures(len(self.groups))
        if len(disturbed) > may:
            raise Broken(f"RO-4: {reply.digest} fails everywhere, and has reached {sorted(disturbed)}")


def version(number: int) -> Version:
    return Version(EPOCH, number)


def _are_failed(words: Words, names: Iterable[str]) -> bool:
    """Failed nodes do not wait for each other: two that hold the last places would wait for ever."""
    return all(words.record.failure_of(name) is not None for name in names)


def _running(words: Words) -> Iterable[str]:
    return [name for name, turn in words.turns.items() if not turn.ended]


def _is_given(before: Any, after: Any) -> bool:
    return not after.ended and (before is None or before.ended or before.digest != after.digest)


def left_alone(world: World, rounds: int = 80) -> None:
    """Nothing fails any more and nobody says anything new: everybody that is up goes on until nothing changes. Raises
    `Broken` when it does not end."""
    servers = range(len(world.servers))
    still = 0
    if world.awaited is not None:
        world.do_publish_revert()
    for turn in range(rounds):
        before = _shape(world)
        for name, node in world.nodes.items():
            if not node.is_up:
                continue
            if name in world.replies:
                world.do_hear(name)
            if node.asks is not None:
                world.do_cut(name)  # the hold ends
            if node.trial is not None and not node.starts:
                world.do_finish(name)
            if node.says is not None:
                world.do_say(name, turn % len(servers), is_heard=True)
            if node.asks is None:
                world.do_ask(name, (turn + len(name)) % len(servers))
        for number in servers:
            world.do_read(number)
            world.do_serve(number)
        still = still + 1 if _shape(world) == before else 0
        if still == 2 and world.rules.has_deadline:  # now the deadlines pass
            for name in list(_running(world.words)):
                if name in world._let_pass(world.servers[0]):
                    world.do_pass(name, 0)
                elif name in world.words.turns:
                    world.do_late(name, 0)
        elif still > 4:
            break
    else:
        raise Broken(f"RO-5: no end: {world.words}")
    words, digest = world.words, world.contents[-1].digest
    record = words.record
    if record.phase == "halted" and (record.failed or record.reverting):
        return
    if record.phase in ("paused", "canary"):
        return
    for name, node in world.nodes.items():
        is_named = record.failure_of(name) is not None or world.has_failed(name)
        if node.is_up and node.is_here and node.told != digest and not is_named:
            raise Broken(f"RO-5: it ends {record.phase}, and {name} runs {node.told} without a word: {words}")


def _shape(world: World) -> object:
    nodes = [(n.told, n.trial, n.refused, n.is_up, n.starts) for n in world.nodes.values()]
    return nodes, msgspec.structs.replace(world.words.record, steps=0), dict(world.words.turns)


def key(world: World) -> str:
    """Equal for worlds that go on alike: numbers that only count are left out."""
    nodes = [
        (n.told, n.good, n.trial, n.refused, n.says, n.is_up, n.starts, n.is_here, n.asks and n.asks[0])
        for n in world.nodes.values()
    ]
    servers = [
        (
            world.words == server.words,
            msgspec.structs.replace(server.words.record, steps=0),
            sorted(server.words.turns.items()),
            sorted(server.spoken.items()),
            server.generation,
            [
                (name, q.asking, world.nodes[name].asks == (n, q.number))
                for name, q in server.questions.items()
            ],
        )
        for n, server in enumerate(world.servers)
    ]
    replies = sorted((name, reply[1:]) for name, reply in world.replies.items())
    record = msgspec.structs.replace(world.words.record, steps=0)
    return repr((nodes, servers, replies, record, sorted(world.words.turns.items()), len(world.contents)))
