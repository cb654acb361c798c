"""A rollout through real processes: `cfgsync serve`, `fetch --watch -- PROGRAM`, and an operator's `cfgsync rollout`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.processes import PATIENCE, Place, Server, body, ended, eventually

HERE = Path(__file__).parent
PROGRAM = """
grep bad out/{name}/current/text >&2 && exit 4
trap 'echo down $(date +%s.%N) >> {name}.log; exit 3' TERM
echo up $(date +%s.%N) $(cat out/{name}/current/text) >> {name}.log
while :; do sleep 0.05; done
"""


class Fleet:
    """A server whose boss says what the nodes get, and the nodes, each a watcher with a program."""

    def __init__(self, place: Place, *flags: str) -> None:
        self.place = place
        self.server: Server = place.serve("rolled:Rolled", "--store", "memory:", *flags, cwd=HERE)
        self.size = 0
        self.nodes: dict[str, Any] = {}

    def join(self, *names: str, flags: tuple[str, ...] = ("--healthy-after", "0.3")) -> None:
        for name in names:
            self.start(name, *flags)
        self.size = self.size or len(self.nodes)

    def start(self, name: str, *flags: str) -> None:
        program = ("--", "sh", "-c", PROGRAM.format(name=name))
        self.nodes[name], _ = self.place.start(
            *self.place.fetching(self.server.url, name, "--watch", *flags, *program)
        )

    def say(self, text: str, **others: str) -> None:
        """What all get, or one of them instead."""
        words = {"*": text, "size": self.size, **others}
        assert self.server.ask("POST", "/register", body("boss", words)).status == 202

    def booted(self, text: str = "one") -> None:
        self.say(text)
        eventually(lambda: all(self.starts(name) == [text] for name in self.nodes))
        self.through()

    def through(self) -> None:
        """Every node is through."""
        eventually(lambda: self.rollout.get("state") == "idle" and self.rollout["through"] == len(self.nodes))

    @property
    def rollout(self) -> dict[str, Any]:
        return dict(self.server.status().get("rollout", {}))

    @property
    def failed(self) -> list[str]:
        return [one["identifier"] for one in self.rollout["failed"]]

    def has_failed_on_the_newest(self, name: str, text: str) -> bool:
        """Whether the node has failed on the current generation, which says this."""
        given = self.server.ask("POST", "/node", body("original"))
        number = self.server.status()["generation"].rpartition(".")[2]
        failure = self.server.status(name)["last_failure"] or ""
        return f"{text}\n".encode() in given.body.replace(b"\\n", b"\n") and failure.startswith(
            f"generation {number}:"
        )

    def operate(self, *words: str) -> tuple[int, str]:
        done = self.place.run("rollout", *words, "--server", self.server.url)
        return done.returncode, done.stdout + done.stderr

    def events(self, name: str) -> list[list[str]]:
        log = self.place.directory / f"{name}.log"
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def starts(self, name: str) -> list[str]:
        """The text at each start of its program."""
        return [event[2] for event in self.events(name) if event[0] == "up" and len(event) == 3]

    def most_down(self) -> int:
        """How many programs were down at the same time at most, after their first starts."""
        moments = []
        for name in self.nodes:
            for kind, at, *_ in self.events(name)[1:]:
                moments.append((float(at), -1 if kind == "up" else 1))
        most = down = 0
        for _, change in sorted(moments):
            down += change
            most = max(most, down)
        return most


@pytest.fixture
def fleet(place: Place) -> Fleet:
    return Fleet(place)


def test_a_seventh_node_joins_six_programs_and_never_are_two_down_at_once(fleet: Fleet) -> None:
    fleet.join(*(names := [f"n{number}" for number in range(1, 7)]))
    fleet.booted()
    fleet.join("n7")
    eventually(lambda: all(len(fleet.starts(name)) == 2 for name in names))
    fleet.through()
    assert fleet.starts("n7") == ["one"], "it had no files, and got the newest at once"
    assert fleet.most_down() == 1

    # two changes in quick succession
    fleet.say("two")
    fleet.say("three")
    eventually(lambda: all(fleet.starts(name)[-1] == "three" for name in fleet.nodes))
    fleet.through()
    assert fleet.most_down() == 1


def test_content_that_fails_everywhere_disturbs_one_program_and_a_fix_goes_there_first(fleet: Fleet) -> None:
    fleet.join("a", "b", "c")
    fleet.booted()
    fleet.say("bad")
    eventually(lambda: fleet.rollout["state"] == "halted")
    (first,) = fleet.failed
    others = [name for name in "abc" if name != first]
    why = "program ended with exit code 4 after the restart; its last lines: bad"
    code, said = fleet.operate("status")
    assert (code, why in " ".join(said.split())) == (1, True), said
    (named,) = fleet.rollout["failed"]
    assert named["words"] == "", "what a program writes may quote a file, and this is anybody on the machine"
    assert "last lines" not in fleet.server.ask("GET", "/").body.decode()
    eventually(lambda: len(fleet.starts(first)) > 1)
    assert [fleet.starts(name) for name in others] == [["one"], ["one"]]

    # one without files, a one-shot fetch and an original client get the newest at once
    assert ended(fleet.place.fetch(fleet.server.url, "d"))[0] == 0
    assert fleet.place.current("d").joinpath("text").read_text() == "bad\n"
    assert fleet.server.ask("POST", "/register", body("original")).status == 202
    original = fleet.server.ask("POST", "/node", body("original"))
    assert (original.status, b"bad" in original.body) == (200, True)
    # a node that starts again keeps what it has
    fleet.nodes[others[0]].kill()
    fleet.nodes[others[0]].wait(PATIENCE)
    fleet.start(others[0], "--healthy-after", "0.3")
    eventually(lambda: fleet.starts(others[0]) == ["one", "one"])

    # a second change is tried where the first one failed, and a third one, which is good, needs no operator
    fleet.say("as-bad")
    eventually(lambda: fleet.has_failed_on_the_newest(first, "as-bad"))
    assert [len(fleet.starts(name)) for name in others] == [2, 1]
    fleet.say("two")
    fleet.through()
    assert {name: fleet.starts(name)[-1] for name in "abc"} == dict.fromkeys("abc", "two")
    when = {name: float(fleet.events(name)[-1][1]) for name in "abc"}
    assert min(when, key=when.__getitem__) == first
    assert fleet.failed == []


def test_content_that_fails_on_one_node_halts_there_and_resume_carries_on_without_it(fleet: Fleet) -> None:
    fleet.join("a", "b", "c")
    fleet.booted()
    fleet.say("two", b="bad")
    eventually(lambda: fleet.rollout["state"] == "halted")
    assert fleet.failed == ["b"]
    assert fleet.place.run("status", "--server", fleet.server.url, "--wait-applied").returncode == 1
    code, said = fleet.operate("resume")
    assert code == 0, said
    eventually(lambda: fleet.starts("a")[-1] == fleet.starts("c")[-1] == "two")
    eventually(lambda: fleet.rollout["through"] == 2)
    assert fleet.failed == ["b"]
    fleet.say("two", b="three")
    fleet.through()
    assert (fleet.failed, fleet.starts("b")[-1]) == ([], "three")
    assert len(fleet.starts("a")) == len(fleet.starts("c")) == 2, "theirs is the same content"


def test_retry_tries_the_same_files_once_and_it_halts_again(fleet: Fleet) -> None:
    fleet.join("a", "b", "c")
    fleet.booted()
    fleet.say("bad")
    eventually(lambda: fleet.rollout["state"] == "halted" and len(fleet.starts("a")) == 2)
    tried = len(fleet.events("a"))
    code, said = fleet.operate("retry")
    assert code == 0, said
    eventually(lambda: len(fleet.events("a")) > tried)
    eventually(lambda: fleet.rollout["state"] == "halted" and not fleet.rollout["in_transition"])
    eventually(lambda: len(fleet.starts("a")) == 3)
    assert len(fleet.events("a")) == tried + 2, "down once, and up once"
    assert len(fleet.starts("b")) == len(fleet.starts("c")) == 1


def test_a_node_whose_reload_command_fails_gets_the_fix_also_when_it_was_left_behind(place: Place) -> None:
    fleet = Fleet(place)
    for name in "abc":
        command = f"! grep bad out/{name}/current/text"
        words = place.fetching(fleet.server.url, name, "--watch", "--reload-command", command)
        fleet.nodes[name], _ = place.start(*words)
    fleet.size = 3
    fleet.say("one")
    fleet.through()
    fleet.say("two", b="bad")
    eventually(lambda: fleet.rollout["state"] == "halted")
    code, said = fleet.operate("resume")
    assert code == 0, said
    eventually(lambda: fleet.rollout["through"] == 2)
    assert fleet.failed == ["b"]
    fleet.say("three")
    fleet.through()
    assert fleet.failed == []


def test_revert_takes_a_halted_change_back_and_disturbs_only_what_had_it(fleet: Fleet) -> None:
    fleet.join("a", "b", "c")
    fleet.booted()
    fleet.say("two", b="bad")
    eventually(lambda: fleet.rollout["state"] == "halted")
    had = [name for name in "ac" if fleet.starts(name) == ["one", "two"]]
    code, said = fleet.operate("revert")
    assert code == 0, said
    fleet.through()
    for name in "ac":
        assert fleet.starts(name) == (["one", "two", "one"] if name in had else ["one"])
    assert fleet.starts("b") == ["one", "one"]


def gate(name: str) -> tuple[str, ...]:
    """Healthy on `two` when its gate is open."""
    return "--healthy-after", "0", "--health", f"grep -q one out/{name}/current/text || test -e open-{name}"


def on_it(fleet: Fleet) -> list[str]:
    return sorted(name for name in fleet.nodes if fleet.starts(name)[-1:] == ["two"]
                  and not (fleet.place.directory / f"open-{name}").exists())  # fmt: skip


def test_no_wave_is_larger_than_what_came_through(place: Place) -> None:
    gated = Fleet(place, "--max-parallel", "3")
    names = [f"n{number:02}" for number in range(12)]
    for name in names:
        gated.start(name, *gate(name))
    gated.size = 12
    gated.booted()
    gated.say("two")
    seen = []
    for through, wave in ((0, 1), (1, 1), (2, 2), (4, 3), (7, 3), (10, 2)):
        eventually(lambda through=through, wave=wave: (  # type: ignore[misc]
            gated.rollout["through"] == through and len(on_it(gated)) == wave
        ))  # fmt: skip
        assert gated.rollout["in_transition"] == wave
        seen.append(wave)
        for name in on_it(gated):
            gated.place.write(f"open-{name}", "")
    gated.through()
    assert seen == [1, 1, 2, 3, 3, 2]


def test_groups_change_side_by_side_and_the_death_of_one_node_holds_its_group_for_the_deadline_at_most(
    place: Place,
) -> None:
    fleet = Fleet(place, "--max-parallel", "2", "--max-failures", "5", "--deadline", "5")
    groups = {"a": "etcd", "b": "etcd", "c": "etcd", "d": "workers", "e": "workers"}
    for name, group in groups.items():
        fleet.start(name, *gate(name), "--rollout-group", group)
    fleet.size = len(groups)
    fleet.booted()
    fleet.say("two")
    eventually(lambda: [groups[name] for name in on_it(fleet)] == ["etcd", "workers"])
    holder, worker = on_it(fleet)
    fleet.nodes[holder].kill()
    fleet.nodes[holder].wait(PATIENCE)
    for name in fleet.nodes:
        if name != holder:
            place.write(f"open-{name}", "")
    eventually(lambda: fleet.rollout["through"] == 4)
    assert fleet.failed == [holder]
    place.write(f"open-{holder}", "")
    fleet.start(holder, *gate(holder), "--rollout-group", "etcd")
    fleet.through()
    assert (fleet.failed, fleet.starts(holder)) == ([], ["one", "two", "two"])
    assert worker in "de"
