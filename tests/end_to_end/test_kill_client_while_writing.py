"""Kill −9 inside the writing, again and again: whoever reads sees one whole set, and the next start leaves nothing over.

Where a kill fell is read from what it left on disk, not from marks in the product's code. The same is done before every
single step in `tests/artifacts/test_swapped_directory.py`; here the moment is random, the sets are large, somebody is reading.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from cfgsync_runtime.node.memory.state import NodeState
from tests.chaos.form import sized
from tests.end_to_end import writer_to_be_killed as writer
from tests.seeds import drawn_seed

KILLS = sized(60, 200)


def kills(
    kind: str, place: Path, times: int, longest: float, written: Callable[[], bool] = lambda: True
) -> Iterator[int]:
    """Start a writer and kill it after a random while, again and again; yields after each kill. While nothing was `written`,
    the machine is busy, and each while is longer than the last."""
    chance = random.Random(drawn_seed())
    command = [sys.executable, writer.__file__, kind, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for run in range(1, times + 1):
            print("start", file=parent.stdin, flush=True)
            child = int(parent.stdout.readline())
            longest = longest if written() else min(longest * 1.2, 1.0)
            time.sleep(chance.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
            print("reap", file=parent.stdin, flush=True)
            assert int(parent.stdout.readline()) == signal.SIGKILL, "the writer ended by itself"
            yield run
        parent.stdin.close()


def label_of(content: bytes, number: int) -> str:
    """Which set a file says that it is of. Fails when it is torn."""
    lines = content.splitlines(keepends=True)
    assert len(lines) == 100 + 37 * number, f"file {number} is torn: {len(lines)} lines"
    assert len(set(lines)) == 1, f"file {number} is mixed in itself: {set(lines)}"
    label, said = lines[0].decode().split()
    assert int(said) == number
    return label


def read_set(out: Path) -> str | None:
    """The label of the set in `current`, read through one descriptor; None when two newer sets came meanwhile."""
    fd = os.open(out / "current", os.O_RDONLY | os.O_DIRECTORY)
    try:
        number = int(os.path.basename(os.readlink(f"/proc/self/fd/{fd}").removesuffix(" (deleted)")))
        labels = set()
        for n in range(writer.FILES):
            try:
                file = os.open(f"d{n % 5}/f{n}", os.O_RDONLY, dir_fd=fd)
            except FileNotFoundError:
                now = int(os.path.basename(os.readlink(out / "current")))
                assert now >= number + 2, f"generation {number} lost a file while {now} was current"
                return None
            with open(file, "rb") as content:
                labels.add(label_of(content.read(), n))
        assert len(labels) == 1, f"a mixed set: {labels}"
        return labels.pop()
    finally:
        os.close(fd)


class Reader(threading.Thread):
    """Reads `current` over and over while others write and are killed."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.out = out
        self.outcomes: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self.stopped = threading.Event()

    def run(self) -> None:
        try:
            while not self.stopped.wait(0.002):
                self.outcomes["outrun" if read_set(self.out) is None else "whole"] += 1
        except BaseException as error:
            self.failure = error


def where_it_fell(out: Path) -> str:
    names = os.listdir(out / ".generations")
    current = int(os.path.basename(os.readlink(out / "current")))
    numbers = [int(name) for name in names if re.fullmatch("[0-9]+", name)]
    if "stage-current" in names:
        return "symlink made, not swapped"
    if any(name.startswith("stage-") for name in names):
        return "staging"
    if max(numbers) > current:
        return "renamed, not current"
    if len(numbers) > 2:
        return "swapped, not pruned"
    return "between two writes"


def test_kills_while_sets_are_written_leave_no_mixed_set(tmp_path: Path) -> None:
    out = tmp_path / "out"
    writer.write_once("directory", str(out), "0-0-A")
    reader = Reader(out)
    reader.start()
    fell: Counter[str] = Counter()
    labels = set()
    try:
        for run in kills("directory", out, KILLS, longest=0.06, written=lambda: len(labels) > KILLS // 10):
            fell[where_it_fell(out)] += 1
            labels.add(read_set(out))
            assert set(os.listdir(out)) == {".generations", "current"}
            if run % 5 == 0:
                last = f"{run}-after-A"
                writer.write_once("directory", str(out), last)
                current = int(os.path.basename(os.readlink(out / "current")))
                left = sorted(map(int, os.listdir(out / ".generations")))
                # only sets that were replaced, all of them young, at most 20: nothing staged, nothing above the current
                assert left[-1] == current, f"left over after kill {run}: {left}"
                assert len(left) <= 20, f"left over after kill {run}: {left}"
                assert read_set(out) == last
    finally:
        reader.stopped.set()
        reader.join()
    print(
        f"where the kills fell: {dict(fell)}; {len(labels)} sets were current; the reader: {dict(reader.outcomes)}"
    )
    if reader.failure:
        raise reader.failure
    assert None not in labels
    assert fell.total() == KILLS
    assert fell["staging"] >= KILLS // 2, "too few kills fell into the writing to say anything"
    assert fell.total() - fell["between two writes"] >= KILLS * 0.6
    assert len(labels) > KILLS // 10
    assert reader.outcomes["whole"] > KILLS


def test_kills_while_files_are_replaced_in_their_places_leave_each_whole(tmp_path: Path) -> None:
    routed = {tmp_path / f"r{n % 2}" / f"routed{n}": n for n in range(8)}
    rest = {tmp_path / "rest" / f"d{n % 5}" / f"f{n}": n for n in range(8, 16)}
    places = {**routed, **rest}
    writer.write_once("map", str(tmp_path), "0-0-A")
    fell: Counter[str] = Counter()
    for run in kills(
        "map",
        tmp_path,
        KILLS // 2,
        longest=0.03,
        written=lambda: fell["between two writes"] < max(fell.total(), 1),
    ):
        labels = {label_of(path.read_bytes(), n) for path, n in places.items()}
        staged = list(tmp_path.rglob("*.cfgsync-stage"))
        fell["renaming" if len(labels) > 1 else "staging" if staged else "between two writes"] += 1
        if run % 5 == 0:
            writer.write_once("map", str(tmp_path), f"{run}-after-A")
            assert {path for path in tmp_path.rglob("*") if not path.is_dir()} == places.keys()
            assert {label_of(path.read_bytes(), n) for path, n in places.items()} == {f"{run}-after-A"}
    print(f"where the kills fell: {dict(fell)}")
    assert fell.total() - fell["between two writes"] >= KILLS // 6


def test_kills_while_a_node_remembers_damage_nothing(tmp_path: Path) -> None:
    complaints: list[str] = []
    state = NodeState(tmp_path, "node-1", complain=complaints.append)
    secret = state.secret()
    writer.write_once("state", str(tmp_path), "0-0-A")
    kept = set()
    last = 0
    for run in kills("state", tmp_path, KILLS // 2, longest=0.02, written=lambda: len(kept) > 2):
        cached, seen = state.cached(), state.seen()
        assert cached is not None
        assert seen is not None
        assert seen.number <= cached.number <= run
        assert last <= cached.number
        last = cached.number
        assert len({label_of(file.data, n) for n, file in enumerate(cached.payload.files)}) == 1
        assert state.secret() == secret
        kept.add(cached.payload.digest)
    writer.write_once("state", str(tmp_path), f"{KILLS}-0-A")
    assert sorted(os.listdir(tmp_path)) == ["payload", "secret", "seen"]
    assert complaints == []
    assert len(kept) > 2
