"""However the command line ends, there is no traceback: readers that leave, full disks, odd terminals, Ctrl-C."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cfgsync_runtime.cli.parts.terminal import cells, filled, fitted
from tests.scripted_server import Says, ScriptedServer

PROGRAM = (sys.executable, "-c", "from cfgsync_runtime.cli import main; main()")
INTERRUPTED_WHILE_LOADING = """
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from cfgsync_runtime.cli import main; main()
"""


@pytest.mark.parametrize("words", [["--help"], ["--version"], [], ["fetch", "--help"], ["generation"]])
def test_a_reader_that_leaves_ends_it_without_a_word(words: list[str]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [*PROGRAM, *words], stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_cannot_be_written_is_two_lines() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "the output cannot be written: No space left on device\nwrite it elsewhere\n"


def test_a_terminal_without_utf_8_gets_question_marks() -> None:
    long = json.dumps({"identifier": "n" * 128, "state": "ready"}).encode()
    with ScriptedServer([Says(200, long)]) as server:
        done = subprocess.run(
            [*PROGRAM, "status", "n", "--server", server.url],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"n" * 72 + b"?: ready\n")


def test_ctrl_c_while_it_is_still_being_loaded_is_130_without_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_LOADING, "fetch"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_text_is_cut_by_the_columns_that_it_takes() -> None:
    assert [cells(text) for text in ("node", "节点", "e\u0301", "ｎ", "…")] == [4, 4, 1, 2, 1]
    assert fitted("节点节点", 5) == "节点…"
    assert fitted("节点节点", 4) == "节…"
    assert filled("节点节点", 4) == "节… "
    assert [fitted("node-1", width) for width in (6, 5, 1, 0)] == ["node-1", "node…", "…", ""]
