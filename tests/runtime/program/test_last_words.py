"""The last lines of a program, read from a file or from a pipe that is passed on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import subprocess, sys
from cfgsync_runtime.program.last_words import LastWords
words = LastWords("ours: ")
def run(line):
    words.begin()
    subprocess.run(["sh", "-c", line], **words.streams)
run("echo before >&2")
print("ours: a line of cfgsync", file=sys.stderr, flush=True)
run("echo out; " + sys.argv[1])
print(words.words(), flush=True)
words.close()
"""


def last_words(line: str, errors: int | str) -> tuple[str, str]:
    """What is known of a program that runs this line, and all that it wrote to stderr."""
    words = [sys.executable, "-c", PROGRAM, line]
    if isinstance(errors, str):
        with open(errors, "a") as file:
            done = subprocess.run(words, stdout=subprocess.PIPE, stderr=file, text=True, check=True)
        return done.stdout, Path(errors).read_text()
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=errors, text=True, check=True)
    return done.stdout, done.stderr or ""


def test_they_are_those_since_the_last_start_whether_stderr_is_a_file_or_a_pipe(tmp_path: Path) -> None:
    line = "echo unknown flag >&2; echo ours: not the program >&2; echo give up >&2"
    file = tmp_path / "log"
    file.write_text("from an earlier life\n")
    out, wrote = last_words(line, str(file))
    assert out == "out\nunknown flag give up\n"
    assert wrote.startswith("from an earlier life\nbefore\n")
    out, wrote = last_words("echo unknown flag >&2; echo give up >&2", subprocess.PIPE)
    assert out == "out\nunknown flag give up\n"
    assert wrote == "before\nours: a line of cfgsync\nunknown flag\ngive up\n"


def test_a_pipe_that_takes_both_streams_keeps_their_order() -> None:
    out, _ = last_words("echo 1; echo 2 >&2; echo 3; echo 4 >&2", subprocess.STDOUT)
    assert out.endswith("out\n1\n2\n3\n4\nout 1 2 3 4\n")


def test_much_output_is_passed_on_whole_and_only_its_end_is_kept() -> None:
    out, wrote = last_words("seq 1 40000 >&2", subprocess.PIPE)
    assert wrote.splitlines()[2:] == [str(number) for number in range(1, 40001)]
    assert len(out) < 1100
    assert out.rstrip().endswith("39999 40000")


def test_without_a_file_or_a_pipe_nothing_is_known_and_nothing_is_changed() -> None:
    out, _ = last_words("echo lost >&2", subprocess.DEVNULL)
    assert out == "out\n\n"


def test_what_an_earlier_program_wrote_and_nobody_has_read_yet_does_not_count() -> None:
    slow = "import time; from cfgsync_runtime.program import last_words as module\n"
    slow += "write = module._is_written\nmodule._is_written = lambda piece: time.sleep(0.3) or write(piece)\n"
    words = [sys.executable, "-c", slow + PROGRAM, "echo unknown flag >&2"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "out\nunknown flag\n"
    assert done.stderr.endswith("before\nunknown flag\n")


def test_lines_that_are_still_in_the_pipe_do_not_count() -> None:
    slow = "import time; from cfgsync_runtime.program import last_words as module\n"
    slow += "class Select:\n    @staticmethod\n    def select(*sets):\n"
    slow += "        len(sets) == 3 and time.sleep(0.3)\n        return real.select(*sets)\n"
    slow += "real, module.select = module.select, Select\n"
    words = [sys.executable, "-c", slow + PROGRAM, "echo unknown flag >&2"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "out\nunknown flag\n"
