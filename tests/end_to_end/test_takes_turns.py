"""`cfgsync fetch --watch` under a server that lets nodes change in turns: when it asks, what is on trial, what comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from random import Random

import msgspec
import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core.store.epoch import uuid7
from tests.processes import BIN, PATIENCE, Place, eventually
from tests.scripted_server import Act, Heard, Says, ScriptedServer, files
from tests.seeds import drawn_seed

EPOCH = uuid7(2_000_000)
PROGRAM = """
grep -q bad {file} && {{ echo "unknown flag: bad" >&2; exit 4; }}
trap 'exit 3' TERM
echo start $(cat {file}) >> {log}
while :; do sleep 0.02; done
"""


class Asked(msgspec.Struct, frozen=True):
    """One `/node` of the node, without the quotes of its `If-None-Match`."""

    turn: str | None
    named: str | None
    waits: bool


class TurnServer(ScriptedServer):
    """A server of one node, whose turn it is when `may_change`; `gives_again` sends files that the node names all the same."""

    def __init__(self, text: str = "one") -> None:
        super().__init__(self._turns)
        self.number, self.text = 1, text
        self.may_change = True
        self.gives_again = False
        self.asked: list[Asked] = []
        self.acks: list[dict[str, str]] = []

    def say(self, text: str) -> None:
        """The next generation."""
        self.number, self.text = self.number + 1, text

    @property
    def generation(self) -> str:
        return f"{EPOCH}.{self.number}"

    @property
    def digest(self) -> str:
        return digest(self.text)

    def words(self, status: str, number: int | None = None) -> list[dict[str, str]]:
        """The acknowledgements with this status, of a generation or of all."""
        return [
            ack
            for ack in self.acks
            if ack["status"] == status and number in (None, int(ack["generation"].rpartition(".")[2]))
        ]

    def _turns(self, heard: Heard) -> Act:
        if heard.path == "/register":
            return Says(202)
        if heard.path == "/ack":
            self.acks.append(json.loads(heard.body))
            return Says(204)
        named = heard.headers.get("if-none-match", "").strip('"') or None
        asked = Asked(heard.headers.get("cfgsync-turn"), named, "prefer" in heard.headers)
        self.asked.append(asked)
        until = time.monotonic() + 1.0 * asked.waits
        while not (self.gives_again or (named != self.digest and (named is None or self.may_change))):
            if time.monotonic() >= until:
                headers = {"ETag": f'"{named}"'}
                headers["Cfgsync-Generation" if named == self.digest else "Cfgsync-Next"] = self.generation
                return Says(304, headers=headers)
            time.sleep(0.02)
        self.gives_again = False
        return files([ArtifactFile("/text", self.text + "\n")], self.generation)


def digest(text: str) -> str:
    return ArtifactSet([ArtifactFile("/text", text + "\n")]).digest


class Node:
    """A watching node `a` with a program that notes its starts, and ends with code 4 on files with `bad` in them."""

    def __init__(self, place: Place, url: str, *flags: str, command: bool = True) -> None:
        self.file = place.current("a") / "text"
        self.log = place.directory / "a.log"
        words = ["--", "sh", "-c", PROGRAM.format(file=self.file, log=self.log)] if command else []
        self.process, self._errors = place.start(*place.fetching(url, "a", "--watch", *flags, *words))

    @property
    def said(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    @property
    def text(self) -> str:
        return self.file.read_text().strip()

    @property
    def notes(self) -> str:
        return self._errors.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


def healthy_when(well: Path) -> tuple[str, str]:
    """Without `bad` files, once this path exists."""
    return "--health", f"test -e {well} && ! grep -q bad out/a/current/text"


INSTANT = ("--healthy-after", "0")


def test_a_change_waits_for_its_turn_is_on_trial_and_is_applied_when_it_is_healthy(place: Place) -> None:
    well = place.directory / "well"
    with TurnServer() as server:
        node = Node(place, server.url, *INSTANT, *healthy_when(well), "--rollout-group", "etcd")
        eventually(lambda: node.said == ["start one"] and bool(server.words("applied", 1)))
        assert server.words("applied", 1)[0]["group"] == "etcd"
        first, *later = server.asked
        assert (first.named, first.turn) == (None, "etcd; steady")
        eventually(lambda: len(server.asked) > 2)
        assert all(asked.waits and asked.named == digest("one") for asked in later)

        server.may_change = False
        server.say("two")
        asked = len(server.asked)
        eventually(lambda: len(server.asked) > asked + 1)
        assert {one.turn for one in server.asked} == {"etcd; steady"}
        assert (node.text, node.said) == ("one", ["start one"])
        eventually(lambda: node.notes.count("a: generation 2 waits for this node's turn") == 1)

        server.may_change = True
        eventually(lambda: node.said == ["start one", "start two"])
        on_trial = Asked("etcd; trial", digest("two"), True)
        eventually(lambda: server.asked[-2:] == [on_trial, on_trial])
        assert not server.words("applied", 2), "it is not healthy yet"
        well.touch()
        eventually(lambda: bool(server.words("applied", 2)))
        eventually(lambda: server.asked[-1] == Asked("etcd; steady", digest("two"), True))
        assert not server.words("failed")


def test_a_program_that_ends_on_trial_gets_its_old_files_back_and_is_not_tried_again_unasked(
    place: Place,
) -> None:
    with TurnServer() as server:
        node = Node(place, server.url)  # with the five seconds of a restarted program
        eventually(lambda: node.said == ["start one"] and bool(server.words("applied", 1)))
        server.say("bad")
        eventually(lambda: node.said == ["start one", "start one"])
        assert node.text == "one"
        eventually(lambda: bool(server.words("failed")))
        failed = server.words("failed")[0]
        assert (failed["digest"], failed["group"]) == (digest("bad"), "default")
        why = "program ended with exit code 4 after the restart"
        assert (failed["reason"], failed["words"]) == (why, "unknown flag: bad")
        assert f"a: {why}; the files of generation 1 are in place again" in node.notes
        refused = Asked("default; refused", digest("bad"), True)
        eventually(lambda: server.asked[-2:] == [refused] * 2)
        assert server.acks[-1]["status"] == "failed", "never followed by applied for the old files"

        # it is told again at each start, and not tried again
        node.kill()
        acks, asked = len(server.acks), len(server.asked)
        node = Node(place, server.url)
        eventually(lambda: len(server.acks) > acks)
        assert server.asked[asked] == Asked("default; refused", digest("bad"), False)
        assert server.acks[acks] == failed
        eventually(lambda: node.said == ["start one"] * 3)

        # the server gives it once more: `rollout retry`
        server.gives_again = True
        eventually(lambda: node.said == ["start one"] * 4)
        server.say("two")
        eventually(lambda: bool(server.words("applied", 3)))
        eventually(lambda: node.said[-1] == "start two")
        assert server.words("applied", 2) == []


def test_a_fix_arrives_in_the_middle_of_a_trial_and_what_it_replaces_is_never_reported(place: Place) -> None:
    well = place.directory / "well"
    with TurnServer() as server:
        node = Node(place, server.url, *INSTANT, *healthy_when(well))
        eventually(lambda: bool(server.words("applied", 1)))
        server.say("two")
        eventually(lambda: node.said[-1:] == ["start two"])
        server.say("three")
        eventually(lambda: node.said[-1:] == ["start three"])
        well.touch()
        eventually(lambda: bool(server.words("applied", 3)))
        assert not server.words("applied", 2) + server.words("failed")


@pytest.mark.parametrize("way", ["signal", "command", "without a program"])
def test_files_that_are_not_healthy_in_time_are_taken_back_and_the_program_is_told(
    place: Place, way: str
) -> None:
    told, target = place.directory / "told", place.directory / "routed"
    unhealthy = ("--health", f"! grep -q two {target}", "--health-within", "0.3")
    flags = {
        "signal": ["--reload", "HUP", "--", "sh", "-c", f"trap 'echo told >> {told}' HUP; while :; do sleep 0.02; done"],
        "command": ["--reload-command", f"echo told >> {told}"],
        "without a program": [],
    }[way]  # fmt: skip
    with TurnServer() as server:
        routed = ("--route", f"/text={target}", "--state", str(place.directory / "state"))
        process, errors = place.start(
            *("fetch", "--server", server.url, "--id", "a", "--ip", "127.0.0.1", *routed),
            *("--watch", *unhealthy, *flags),
        )
        eventually(lambda: bool(server.words("applied", 1)))
        before = told.read_text().count("told") if told.exists() else 0
        server.say("two")
        eventually(lambda: bool(server.words("failed", 2)))
        assert server.words("failed", 2)[0]["reason"].startswith("--health did not pass within 0.3 s")
        assert target.read_text() == "one\n"
        eventually(lambda: not flags or told.read_text().count("told") == before + 2)
        assert not server.words("applied", 2)
        eventually(lambda: "the files of generation 1 are in place again" in errors.read_text())
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def test_a_refused_check_is_a_failed_turn_that_disturbs_nothing_and_a_fix_is_taken(place: Place) -> None:
    check = ("--check", '! grep bad "$CFGSYNC_STAGED/text"')
    with TurnServer() as server:
        node = Node(place, server.url, *INSTANT, *check)
        eventually(lambda: bool(server.words("applied", 1)))
        server.say("bad")
        eventually(lambda: bool(server.words("failed", 2)))
        assert server.words("failed", 2)[0]["reason"] == "--check refused the files: exit code 1"
        eventually(lambda: server.asked[-1] == Asked("default; refused", digest("bad"), True))
        server.say("two")
        eventually(lambda: bool(server.words("applied", 3)))
        eventually(lambda: node.said == ["start one", "start two"])
        assert server.acks[-1]["status"] == "applied"


def test_a_start_out_of_turn_keeps_its_files_and_starts_its_program(place: Place) -> None:
    with TurnServer() as server:
        node = Node(place, server.url, *INSTANT)
        eventually(lambda: node.said == ["start one"])
        node.kill()
        server.may_change = False
        server.say("two")
        asked = len(server.asked)
        node = Node(place, server.url, *INSTANT)
        eventually(lambda: node.said == ["start one", "start one"])
        assert server.asked[asked] == Asked("default; steady", digest("one"), False)

        # with files that do not verify it names none, and gets the newest at once
        node.kill()
        node.file.write_text("by hand")
        asked = len(server.asked)
        node = Node(place, server.url, *INSTANT)
        eventually(lambda: node.said[-1:] == ["start two"])
        assert server.asked[asked] == Asked("default; steady", None, True)


def test_ro_11_after_kill_9_the_files_are_whole_and_the_trial_resumes(place: Place) -> None:
    well = place.directory / "well"
    with TurnServer() as server:
        node = Node(place, server.url, *INSTANT, *healthy_when(well))
        eventually(lambda: bool(server.words("applied", 1)))
        server.say("two")
        eventually(lambda: node.said[-1:] == ["start two"])
        eventually(lambda: server.asked[-1].turn == "default; trial")
        node.kill()
        asked = len(server.asked)
        node = Node(place, server.url, *INSTANT, *healthy_when(well))
        eventually(lambda: node.said[-2:] == ["start two", "start two"] and len(server.asked) > asked + 2)
        assert server.asked[asked] == Asked("default; trial", digest("two"), False)
        assert not server.words("applied", 2)
        well.touch()
        eventually(lambda: bool(server.words("applied", 2)))

        # at any moment
        random = Random(drawn_seed())
        texts = {"two"}
        for number in range(6):
            text = "bad" if number % 3 == 1 else f"text-{number}"
            server.say(text)
            texts |= {text}
            time.sleep(random.random() * 0.4)
            node.kill()
            assert node.text in texts
            node = Node(place, server.url, *INSTANT, *healthy_when(well))
            eventually(lambda: server.asked[-1].waits)
        server.say("last")
        eventually(lambda: bool(server.words("applied", server.number)), within=30)
        assert node.text == "last"
        eventually(lambda: node.said[-1:] == ["start last"])
        assert not [ack for ack in server.words("applied") if ack["digest"] == digest("bad")]
        left = {path.name for path in (place.directory / "state/a").iterdir()}
        assert not left & {"trial", "refused"}


def test_ro_11_a_trial_that_was_killed_still_goes_back_to_the_files_before_it(place: Place) -> None:
    never = healthy_when(place.directory / "well")
    with TurnServer() as server:
        node = Node(place, server.url, *INSTANT, *never)
        eventually(lambda: bool(server.words("applied", 1)))
        server.say("two")
        eventually(lambda: node.said[-1:] == ["start two"])
        eventually(lambda: server.asked[-1].turn == "default; trial")
        node.kill()
        server.may_change = False
        node = Node(place, server.url, *INSTANT, *never, "--health-within", "0.3")
        eventually(lambda: bool(server.words("failed", 2)))
        assert (node.text, server.words("applied", 2)) == ("one", [])
        eventually(lambda: node.said[-1:] == ["start one"])


def test_only_a_watch_with_something_to_disturb_or_to_refuse_takes_turns(place: Place) -> None:
    with TurnServer() as server:
        assert place.run(*place.fetching(server.url, "a")).returncode == 0
        watch = Node(place, server.url, command=False)
        eventually(lambda: len(server.asked) > 3)
        server.say("two")
        eventually(lambda: bool(server.words("applied", 2)))
        assert {asked.turn for asked in server.asked} == {None}
        assert not any("group" in ack for ack in server.acks)
        assert watch.text == "two"
    for flags in (["--health", "true"], ["--healthy-after", "5"], ["--rollout-group", "b"]):
        refused = place.run(*place.fetching("http://127.0.0.1:9", "a", *flags))
        assert (refused.returncode, "it is for --watch only" in refused.stderr) == (2, True)
    refused = place.run(*place.fetching("http://127.0.0.1:9", "a", "--watch", "--rollout-group", "a b"))
    assert (refused.returncode, "--rollout-group" in refused.stderr) == (2, True)


def test_what_a_program_writes_to_a_pipe_arrives_and_its_last_lines_are_reported(place: Place) -> None:
    with TurnServer() as server:
        file = place.current("a") / "text"
        starts = place.directory / "starts"
        says = f"echo out; echo reads $(cat {file}) >&2; echo start >> {starts}"
        script = f"{says}; grep -q bad {file} && exit 4; exec sleep 1000"
        process = subprocess.Popen(
            [BIN / "cfgsync", *place.fetching(server.url, "a", "--watch", "--", "sh", "-c", script)],
            cwd=place.directory, env=place.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            eventually(starts.exists)
            server.say("bad")
            eventually(lambda: bool(server.words("failed", 2)))
            eventually(lambda: starts.read_text().count("start") == 3)
        finally:
            process.terminate()
            out, errors = process.communicate(timeout=PATIENCE)
        assert server.words("failed", 2)[0]["words"].endswith("reads bad")
        told = [line for line in errors.splitlines() if line.startswith("reads")]
        assert told == ["reads one", "reads bad", "reads one"]
        assert out.splitlines()[1:] == ["out"] * 3


def test_a_program_on_a_terminal_still_has_the_terminal(place: Place) -> None:
    with TurnServer() as server:
        ours, its = os.openpty()
        seen = place.directory / "seen"
        script = f"test -t 1 && test -t 2 && echo both > {seen}.tmp; mv {seen}.tmp {seen}; exec sleep 1000"
        process = subprocess.Popen(
            [BIN / "cfgsync", *place.fetching(server.url, "a", "--watch", "--", "sh", "-c", script)],
            cwd=place.directory, env=place.environment(), stdin=its, stdout=its, stderr=its,
        )  # fmt: skip
        try:
            eventually(seen.exists)
            assert seen.read_text() == "both\n"
        finally:
            process.terminate()
            process.wait(PATIENCE)
            os.close(ours)
            os.close(its)
