"""What a start makes of what a killed watcher left on its disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import Fetched
from cfgsync_core.node import RefusedFiles
from cfgsync_core.store.epoch import uuid7
from cfgsync_core.wire import decode_payload
from cfgsync_core.wire.payload import encode_files
from cfgsync_runtime.node.memory.accepted import remember
from cfgsync_runtime.node.memory.state import NodeState
from cfgsync_runtime.node.outputs import ArtifactOutputMap, write
from cfgsync_runtime.node.trials.start import TurnAtStart, turn_after, turn_at_start
from cfgsync_runtime.node.trials.trial_memory import TrialMemory
from cfgsync_runtime.node.trials.trials import Trials

EPOCH = uuid7(2_000_000)


def fetched(text: str, number: int) -> Fetched:
    made = ArtifactSet([ArtifactFile("/a", text), ArtifactFile("/b", text)])
    payload = decode_payload(b'{"schema_version":1,"files":[' + encode_files(made) + b"]}", made.digest)
    return Fetched(payload, f"{EPOCH}.{number}", made.digest, to_acknowledge=made.digest)


GOOD, NEW = fetched("good", 1), fetched("new", 2)


class Machine:
    """A node that was well with `GOOD`, and has begun a trial of `NEW`."""

    def __init__(self, directory: Path) -> None:
        self.files = directory / "a", directory / "b"
        self.outputs = ArtifactOutputMap().route("/a", self.files[0]).route("/b", self.files[1])
        self.state = NodeState(directory / "state", "node-1")
        write(self.outputs.plan(GOOD.payload.raw_files()))
        remember(self.state, GOOD, pytest.fail)
        self.memory = TrialMemory(self.state)
        self.memory.begin(NEW, 0.0)

    @property
    def texts(self) -> list[str]:
        return [file.read_text() for file in self.files]

    def start(self, told: str | None = None, is_unchanged: bool = True) -> TurnAtStart:
        return turn_at_start(self.state, self.outputs, "g", is_unchanged=is_unchanged, told=told)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_killed_before_the_switch_it_keeps_its_good_files_and_forgets_the_trial(machine: Machine) -> None:
    start = machine.start()
    assert (start.named, start.turn.header()) == (GOOD.digest, "g; steady")
    assert machine.memory.trial() is None


def test_killed_after_the_switch_it_resumes_the_trial_and_knows_what_to_go_back_to(machine: Machine) -> None:
    write(machine.outputs.plan(NEW.payload.raw_files()))
    start = machine.start()
    assert (start.named, start.turn.header()) == (NEW.digest, "g; trial")
    trials = Trials(turn_after(start, machine.state, NEW.digest, True), machine.outputs, machine.state)
    assert trials.is_on
    trials.refuse("it died")
    trials.restore()
    assert machine.texts == ["good", "good"]
    again = machine.start()
    assert (again.named, again.turn.header()) == (NEW.digest, "g; refused")
    assert again.refused == RefusedFiles(NEW.generation, NEW.digest, "it died")


def test_killed_between_two_files_it_starts_with_the_good_ones(machine: Machine) -> None:
    machine.files[0].write_text("new")
    assert machine.start().named == GOOD.digest
    assert machine.texts == ["good", "good"]


def test_killed_before_the_good_files_are_back_they_come_back_at_the_start(machine: Machine) -> None:
    write(machine.outputs.plan(NEW.payload.raw_files()))
    machine.memory.refuse(RefusedFiles(NEW.generation, NEW.digest, "it died"))
    start = machine.start()
    assert (start.turn.header(), machine.texts) == ("g; refused", ["good", "good"])


def test_files_that_somebody_has_changed_are_not_named_and_stay_until_others_come(machine: Machine) -> None:
    machine.memory.end()
    machine.files[0].write_text("by hand")
    assert machine.start().named is None
    assert machine.texts == ["by hand", "good"]


def test_another_registration_is_a_first_start(machine: Machine) -> None:
    write(machine.outputs.plan(NEW.payload.raw_files()))
    start = machine.start(is_unchanged=False)
    assert (start.named, start.good, machine.memory.trial()) == (None, None, None)


def test_files_that_another_program_does_not_know_are_not_named(machine: Machine) -> None:
    machine.memory.end()
    assert machine.start(told=NEW.digest).named is None
    assert machine.start(told=GOOD.digest).named == GOOD.digest


def test_a_damaged_note_of_a_trial_costs_only_that_note(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    write(machine.outputs.plan(NEW.payload.raw_files()))
    path = Path(machine.state.directory) / "trial"
    path.write_bytes(path.read_bytes()[:-1])
    assert machine.start().named is None
    assert machine.texts == ["new", "new"]
    assert "trial is damaged" in capsys.readouterr().err


def test_refused_files_that_were_installed_by_hand_are_obeyed(machine: Machine) -> None:
    machine.memory.refuse(RefusedFiles(NEW.generation, NEW.digest, "no"))
    start = turn_after(machine.start(), machine.state, GOOD.digest, False)
    trials = Trials(start, machine.outputs, machine.state)
    trials.obey()
    assert trials.turn.refused is not None
    remember(machine.state, NEW, pytest.fail)
    trials.obey()
    assert trials.turn.refused is not None, "they went to another place"
    write(machine.outputs.plan(NEW.payload.raw_files()))
    trials.obey()
    assert trials.turn.refused is None
